"""From an occupancy field to a mesh: coarse-to-fine evaluation, then marching cubes, or FlexiCubes.

Node i of a grid with N cells lies at -BOUND + i * 2 * BOUND / N; marching cubes runs on N + 1 nodes, and its
index coordinates are mapped with N, not N + 1 (several public decoders shrink their meshes by N / (N + 1)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.measure import marching_cubes

from core.box import BOUND

Field = Callable[[np.ndarray], np.ndarray]
"""Points (n, 3) float32 in [-BOUND, BOUND]^3 -> logits (n,) float32, positive inside."""

Surface = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray] | None]
"""Logits (n, n, n) -> vertices and faces, or None, as `surface` gives them."""

GRID = ("cells", "coarsest", "band")
"""The params of `extraction` that `evaluate` takes."""


def nodes(index: np.ndarray, cells: int) -> np.ndarray:
    """Positions (n, 3) float32 of grid nodes with integer coordinates `index` (n, 3)."""
    return (index * (2 * BOUND / cells) - BOUND).astype(np.float32)


def evaluate(field: Field, cells: int, *, coarsest: int = 32, band: float = 3.0) -> np.ndarray:
    """Logits (cells + 1,)^3 of the field, evaluated only near its surface.

    Starts dense on the coarsest grid, halving `cells` while the result is at least `coarsest`. On each finer
    grid, nodes around coarse nodes whose sign differs from a neighbour's or whose |logit| is within the band are
    evaluated; the others keep the coarse value (only its sign matters there). Then the surface is followed: nodes that
    only kept a value, on the other side of an evaluated neighbour, are evaluated too, until there are none. So both
    ends of every edge that the result crosses are the field's own, and a part of the surface that was found is whole.
    `band` is that of a grid with `coarsest` cells and shrinks with the spacing, as does what a logit changes between
    two nodes: so the band stays as many nodes wide, and queries grow with the surface, as cells^2.
    """
    levels = [cells]
    while levels[-1] % 2 == 0 and levels[-1] // 2 >= coarsest:
        levels.append(levels[-1] // 2)
    size = levels.pop() + 1
    index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1).reshape(-1, 3)
    values = field(nodes(index, size - 1)).reshape(size, size, size)
    for level in reversed(levels):
        active = np.abs(values) < band * coarsest / (len(values) - 1)
        inside = values > 0
        for axis in range(3):
            lower, upper = [slice(None)] * 3, [slice(None)] * 3
            lower[axis], upper[axis] = slice(None, -1), slice(1, None)
            changes = inside[*lower] != inside[*upper]
            active[*lower] |= changes
            active[*upper] |= changes
        # An even node of the finer grid is a coarse one, an odd node lies between two.
        below, above = np.arange(level + 1) // 2, np.arange(1, level + 2) // 2
        for axis in (2, 1, 0):  # the first axis last: the largest copies are then of whole planes
            grown = active.take(below, axis)
            grown |= active.take(above, axis)
            active, values = grown, values.take(above, axis)
        front = np.flatnonzero(active)
        while len(front):
            index = np.stack(np.unravel_index(front, active.shape), -1)
            np.put(values, front, field(nodes(index, level)))
            front = _across(values, active, front, index)
            np.put(active, front, True)
    return values


def _across(values: np.ndarray, known: np.ndarray, front: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Of the neighbours of nodes, those not `known` and of another sign, each once: places in the flat grid, (m,).

    front: such places of the nodes, (n,); index: the same along the axes, (n, 3).
    """
    found = []
    for axis, stride in enumerate((len(values) ** 2, len(values), 1)):
        for step, end in ((-1, 0), (1, len(values) - 1)):
            here = front[index[:, axis] != end]
            here = here[~known.take(here + step * stride)]
            beside = here + step * stride
            found.append(beside[(values.take(beside) > 0) != (values.take(here) > 0)])
    return np.unique(np.concatenate(found))


def surface_of(name: str) -> Surface:
    """What makes a mesh of logits, by the name that `extraction.surface` gives it: `marching_cubes` or `flexicubes`.

    Raises ImportError, in words, where it needs a package that is not here.
    """
    if name == "marching_cubes":
        return surface
    from methods.layers import flexicubes

    flexicubes.of_kaolin()
    return flexicubes.surface


def surface(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Marching cubes at level 0 of logits (n, n, n), positive inside; None if the level is never crossed.

    Returns vertices (v, 3) float32 in the box and faces (f, 3) int32, counter-clockwise from outside. The outer
    layer of nodes is taken as outside, so that the mesh is closed.
    """
    found = closed(values)
    if found is None:
        return None
    part, corner = found
    vertices, faces, _, _ = marching_cubes(part, 0.0, gradient_direction="ascent")
    return in_box(vertices + corner, len(values)), faces.astype(np.int32)


def closed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of logits (n, n, n) with all cells that the surface crosses; None without any.

    Returns a float32 copy of the part, in which what is of the grid's outer layer is outside, and the index (3,)
    float32 of its first node. An object is as long as the grid along one axis only: often most of the grid is left out.
    """
    inside = values[1:-1, 1:-1, 1:-1] > 0
    if not inside.any():
        return None
    axes = [np.flatnonzero(inside.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    part = values[tuple(slice(found[0], found[-1] + 3) for found in axes)].astype(np.float32)
    for axis, found in enumerate(axes):
        along = part.swapaxes(0, axis)
        if found[0] == 0:
            np.minimum(along[0], -1e-3, out=along[0])
        if found[-1] + 3 == len(values):
            np.minimum(along[-1], -1e-3, out=along[-1])
    return part, np.float32([found[0] for found in axes])


def in_box(vertices: np.ndarray, n: int) -> np.ndarray:
    """Positions (v, 3) float32 in the box of coordinates that count the n nodes of an axis."""
    return (vertices * (2 * BOUND / (n - 1)) - BOUND).astype(np.float32)
