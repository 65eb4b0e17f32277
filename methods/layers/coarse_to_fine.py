"""An occupancy field on a grid, asked only near its surface, from a coarse grid to a fine one.

A finer grid has the middles of edges, of faces and of cells, which are middles of edges too: it is made by halving the
edges along one axis after another. The field is asked in the middle of an edge that the surface may cross; the middle
of any other edge has the sign of its ends, and a lower bound of its |logit|, which the next edges are judged by.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from methods.layers.extraction import nodes

Field = Callable[[np.ndarray], np.ndarray]
"""Points (n, 3) float32 in [-BOUND, BOUND]^3 -> logits (n,) float32, positive inside."""

GRID = ("cells", "coarsest", "change")
"""The params of `extraction` that `evaluate` takes."""

UNSEEN, BOUNDED, ASKED = 0, 1, 2
"""What is known of a node: that it is far from the surface; a lower bound of its |logit|; its logit."""

FAR = 3.0
"""|logit| over what an edge may change, from which a node is far: then so are the nodes next to it on the finer grid.

The middle of an edge is at most half of that change nearer to 0 than an end: after the three axes FAR - 1.5 is left,
which is FAR on the finer grid, whose edges may change half as much.
"""

THIN = 4
"""Times `coarsest`: up to so many cells, edges are looked at for a thin part that is steeper than `change`."""


def evaluate(field: Field, cells: int, *, coarsest: int = 32, change: float = 2.0) -> np.ndarray:
    """Logits (cells + 1,)^3 of the field, evaluated only near its surface.

    Starts dense on the coarsest grid, halving `cells` while the result is at least `coarsest`. On each finer grid the
    field is asked in the middle of an edge whose ends differ in sign, or are together no farther from 0 than the field
    may change along it: `change` on a grid with `coarsest` cells, and half as much on the next. If no edge changes by
    more, every sign is that of the field (benchmarks/faithful.py). Since trained decoders are steeper in places, an
    edge towards which |logit| falls from both sides as fast as it would have to is open too, on grids of up to
    THIN x `coarsest` cells. Then the surface is followed: nodes that were not asked, on the other side of a neighbour,
    are, until there are none. So both ends of every edge that the result crosses are the field's own, and a part of the
    surface that was found is whole. Nodes that were not asked have a value of their sign.
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
        values, known = _finer(field, values, known, most, thin=size < THIN * coarsest)
    return values


def _finer(
    field: Field, values: np.ndarray, known: np.ndarray, most: np.float32, *, thin: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Logits and what is known of them, (n, n, n) each, on the grid of twice as many cells.

    most: what the field may change along an edge. thin: whether to look for thin parts.
    """
    near = np.flatnonzero((np.abs(values) < FAR * most) | ends(values))
    side = 2 * len(values) - 1
    fine = np.copysign(np.abs(values) - 1.5 * most, values)  # what is left of a far node's |logit|, see FAR
    above = np.arange(1, side + 1) // 2  # an even node of the finer grid is a coarse one, an odd one lies between two
    for axis in (2, 1, 0):  # the first axis last: the largest copies are then of whole planes
        fine = fine.take(above, axis)
    fine[::2, ::2, ::2] = values
    seen, coarse = np.zeros(fine.shape, np.uint8), known.take(near)
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


def _halve(
    field: Field, values: np.ndarray, seen: np.ndarray, near: np.ndarray, axis: int, most: np.float32, *, thin: bool
) -> np.ndarray:
    """Fill in the middles of edges along an axis that have a near end; the nodes that are near now, (m,).

    near: places in the flat grid, (n,), of nodes that are not far.
    """
    side = len(values)
    stride = side ** (2 - axis)
    along = near // stride % side
    above, below = near[along < side - 1] + stride, near[along > 0] - stride
    below = below[seen.take(below - stride) == UNSEEN]  # the others are above a near node
    middle = np.concatenate([above, below])
    lower, upper = values.take(middle - stride), values.take(middle + stride)
    together = np.abs(lower) + np.abs(upper)
    opened = ((lower > 0) != (upper > 0)) | (together <= most)
    if thin:
        along = middle // stride % side
        before = values.take(np.where(along > 1, middle - 3 * stride, middle - stride))
        after = values.take(np.where(along < side - 2, middle + 3 * stride, middle + stride))
        opened |= _falls(before, lower, upper, after)
    found = (together - most) * np.where(lower > 0, np.float32(0.5), np.float32(-0.5))
    found[opened] = _ask(field, middle[opened], side)
    np.put(values, middle, found)
    np.put(seen, middle, np.where(opened, ASKED, BOUNDED))
    return np.concatenate([near, middle])


def _falls(before: np.ndarray, lower: np.ndarray, upper: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of four nodes in a line, whether |logit| falls towards the middle by as much as there is left to 0, (n,) bool."""
    same = ((before > 0) == (lower > 0)) & ((after > 0) == (upper > 0))
    left, right = np.abs(before) - np.abs(lower), np.abs(after) - np.abs(upper)
    return same & (left >= 0) & (right >= 0) & (np.abs(lower) + np.abs(upper) < left + right)


def _ask(field: Field, places: np.ndarray, side: int) -> np.ndarray:
    """Logits (n,) at places of the flat grid with so many nodes a side."""
    return field(nodes(np.stack(np.unravel_index(places, (side, side, side)), -1), side - 1))


def ends(values: np.ndarray) -> np.ndarray:
    """Which nodes are ends of edges that the surface crosses, (n, n, n) bool."""
    inside, found = values > 0, np.zeros(values.shape, bool)
    for axis in range(3):
        lower, upper = [slice(None)] * 3, [slice(None)] * 3
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        crossed = inside[*lower] != inside[*upper]
        found[*lower] |= crossed
        found[*upper] |= crossed
    return found


def _across(values: np.ndarray, seen: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Neighbours of nodes that were not asked and have another sign, each once; places in the flat grid, (n,), (m,)."""
    side, found = len(values), []
    for axis in range(3):
        stride = side ** (2 - axis)
        along = front // stride % side
        for step, last in ((-stride, 0), (stride, side - 1)):
            here = front[along != last]
            here = here[seen.take(here + step) != ASKED]
            found.append((here + step)[(values.take(here + step) > 0) != (values.take(here) > 0)])
    return np.unique(np.concatenate(found))
