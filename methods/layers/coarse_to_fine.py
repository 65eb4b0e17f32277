"""An occupancy field on a grid, asked only near its surface, from a coarse grid to a fine one.

A grid of twice as many cells has the nodes of the coarser one and the middles of edges: along the first axis those of
coarse edges, then of edges between what there is by now, which are the middles of faces, and at last of cells. The
field is asked in the middle of an edge that the surface may cross; the middle of any other edge has the sign of its
ends, and a lower bound of its |logit|, which the next edges are judged by.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from methods.layers.extraction import OUTSIDE, nodes

Field = Callable[[np.ndarray], np.ndarray]
"""Points (n, 3) float32 in [-BOUND, BOUND]^3 -> finite logits (n,) float32, positive inside; n may be 0."""

GRID = ("cells", "coarsest", "change")
"""The params of `extraction` that `evaluate` takes."""

DISTANT, BOUNDED, ASKED = 0, 1, 2
"""What a node's value is, on the grid at hand: far from 0, and not to be looked at; a lower bound of its |logit|; its
logit."""

FAR = 3.0
"""|logit| over what an edge may change, from which a node is far: the finer nodes around it are then far on their grid.

The middle of an edge is at most half of that change nearer to 0 than an end: after the three axes FAR - 1.5 is left,
which is FAR on the finer grid, whose edges may change half as much.
"""

AT_ONCE = 1 << 18
"""Nodes that are looked at together: what is made of them on the way then stays in a cache."""

THIN = 4
"""Times `coarsest`: grids of up to so many cells are searched for thin parts that are steeper than `change`."""


def evaluate(field: Field, cells: int, *, coarsest: int = 32, change: float = 2.0) -> np.ndarray:
    """Logits (cells + 1,)^3 of the field, evaluated only near its surface.

    Starts dense on the coarsest grid, halving `cells` while the result is at least `coarsest`. On each finer grid the
    field is asked in the middle of an edge whose ends differ in sign, or are together no farther from 0 than the field
    may change along it: `change` on a grid with `coarsest` cells, and half as much on the next. If no edge of the last
    grid changes by more than its share, `change` x `coarsest` / `cells`, every sign is that of the field
    (benchmarks/faithful.py). Since trained decoders are steeper in places, grids of up to THIN x `coarsest` cells are
    searched for thin parts too (`_falls`). Then the surface is followed: nodes that were not asked, on the other side
    of a neighbour, are, until there are none. So both ends of every edge that the result crosses are the field's own,
    and a part of the surface that was found is whole. Nodes that were not asked have a value of their sign. Those of
    the outer layer are outside, as `extraction.closed` has them.
    """
    levels = [cells]
    while levels[-1] % 2 == 0 and levels[-1] // 2 >= coarsest:
        levels.append(levels[-1] // 2)
    side = levels.pop() + 1
    values = _ask(field, np.arange(side**3), side).reshape(side, side, side)
    known = np.full(values.shape, ASKED, np.uint8)
    for _ in levels:
        size = len(values) - 1
        most = np.float32(change * coarsest / size)
        values, known = _finer(field, values, known, most, thin=2 * size <= THIN * coarsest)
    return values


def _finer(
    field: Field, values: np.ndarray, known: np.ndarray, most: np.float32, *, thin: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and what is known of them, (n, n, n) each, on the grid of twice as many cells.

    most: what the field may change along an edge. thin: whether to look for thin parts.
    """
    near = np.flatnonzero((np.abs(values) < FAR * most) | ends(values))
    fine = _spread(values, most)
    side = len(fine)
    seen, coarse = np.zeros(fine.shape, np.uint8), known.take(near)  # all distant
    near = np.ravel_multi_index([2 * along for along in np.unravel_index(near, values.shape)], fine.shape)
    np.put(seen, near, coarse)
    for axis in range(3):
        near = _halve(field, fine, seen, near, axis, most, thin=thin)
    front = np.flatnonzero(ends(fine) & (seen != ASKED))
    while len(front):
        np.put(fine, front, _ask(field, front, side))
        np.put(seen, front, ASKED)
        front = _across(fine, seen, front)
    return fine, seen


def _spread(values: np.ndarray, most: np.float32) -> np.ndarray:
    """The grid (2 n - 1,)^3 of twice as many cells, each node with what is left of a coarse one's |logit|, see FAR.

    An even node is a coarse one and keeps its value; an odd one lies between two. About near nodes all are overwritten.
    """
    side = 2 * len(values) - 1
    source, fine = np.arange(1, side + 1) // 2, np.empty((side,) * 3, values.dtype)
    for i, plane in enumerate(values):
        left = np.copysign(np.abs(plane) - 1.5 * most, plane)
        fine[max(0, 2 * i - 1) : 2 * i + 1] = left.take(source, 0).take(source, 1)
        fine[2 * i, ::2, ::2] = plane
    return fine


def _halve(
    field: Field, values: np.ndarray, seen: np.ndarray, near: np.ndarray, axis: int, most: np.float32, *, thin: bool
) -> np.ndarray:
    """Fill in the middles of edges along an axis that have a near end; the near nodes with these middles, (m,).

    near: places in the flat grid, (n,), of nodes that are not far.
    """
    side = len(values)
    stride = side ** (2 - axis)
    along = near // stride % side
    above, below = near[along < side - 1] + stride, near[along > 0] - stride
    below = below[seen.take(below - stride) == DISTANT]  # the others are above a near node already
    middle, asked = np.concatenate([above, below]), []
    for part in np.array_split(middle, 1 + len(middle) // AT_ONCE):
        lower, upper = values.take(part - stride), values.take(part + stride)
        together = np.abs(lower) + np.abs(upper)
        opened = ((lower > 0) != (upper > 0)) | (together <= most)
        if thin:
            along = part // stride % side
            before = values.take(np.where(along > 1, part - 3 * stride, part - stride))
            after = values.take(np.where(along < side - 2, part + 3 * stride, part + stride))
            opened |= _falls(before, lower, upper, after)
        np.put(values, part, (together - most) * np.where(lower > 0, np.float32(0.5), np.float32(-0.5)))
        np.put(seen, part, np.where(opened, ASKED, BOUNDED))
        asked.append(part[opened])
    asked = np.concatenate(asked)
    np.put(values, asked, _ask(field, asked, side))
    return np.concatenate([near, middle])


def _falls(before: np.ndarray, lower: np.ndarray, upper: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of four nodes in a line, (n,) each, whether a thin part may lie between the two in the middle, (n,) bool.

    So it may where |logit| falls towards them from both sides, over these two edges by more than is left at them:
    straight on, it would reach 0 within as long an edge, and from a side of a thin part it falls ever faster.
    """
    same = ((before > 0) == (lower > 0)) & ((after > 0) == (upper > 0))
    left, right = np.abs(before) - np.abs(lower), np.abs(after) - np.abs(upper)
    return same & (left >= 0) & (right >= 0) & (np.abs(lower) + np.abs(upper) < left + right)


def _ask(field: Field, places: np.ndarray, side: int) -> np.ndarray:
    """Logits (n,) at places of the flat grid with so many nodes a side; the outer layer is outside."""
    index = np.stack(np.unravel_index(places, (side, side, side)), -1)
    logits = field(nodes(index, side - 1))
    outer = ((index == 0) | (index == side - 1)).any(1)
    return np.where(outer, np.minimum(logits, OUTSIDE), logits)


def ends(values: np.ndarray) -> np.ndarray:
    """Which nodes are ends of edges that the surface crosses, (n, n, n) bool."""
    found = np.zeros(values.shape, bool)
    planes = 1 + AT_ONCE // values[0].size
    for first in range(0, len(values), planes):
        part = slice(first, first + planes + 1)  # with the first plane of the next
        inside, here = values[part] > 0, found[part]
        for axis in range(3):
            lower, upper = [slice(None)] * 3, [slice(None)] * 3
            lower[axis], upper[axis] = slice(None, -1), slice(1, None)
            crossed = inside[*lower] != inside[*upper]
            here[*lower] |= crossed
            here[*upper] |= crossed
    return found


def _across(values: np.ndarray, seen: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Neighbours of the front that were not asked and have another sign, each once: (n,) -> (m,) in the flat grid."""
    side, found = len(values), []
    for axis in range(3):
        stride = side ** (2 - axis)
        along = front // stride % side
        for step, last in ((-stride, 0), (stride, side - 1)):
            here = front[along != last]
            here = here[seen.take(here + step) != ASKED]
            found.append((here + step)[(values.take(here + step) > 0) != (values.take(here) > 0)])
    return np.unique(np.concatenate(found))
