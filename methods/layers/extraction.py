"""From logits on a grid to a mesh: marching cubes, or FlexiCubes.

Node i of a grid with N cells lies at -BOUND + i * 2 * BOUND / N; marching cubes runs on N + 1 nodes, and its
index coordinates are mapped with N, not N + 1 (several public decoders shrink their meshes by N / (N + 1)).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.measure import marching_cubes

from core.box import BOUND

OUTSIDE = -1e-3
"""The most that a node of a grid's outer layer has, so that every mesh is closed."""

Surface = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray] | None]
"""Logits (n, n, n) -> vertices and faces, or None, as `surface` gives them."""


def nodes(index: np.ndarray, cells: int) -> np.ndarray:
    """Positions (n, 3) float32 of grid nodes with integer coordinates `index` (n, 3)."""
    return (index * (2 * BOUND / cells) - BOUND).astype(np.float32)


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
            np.minimum(along[0], OUTSIDE, out=along[0])
        if found[-1] + 3 == len(values):
            np.minimum(along[-1], OUTSIDE, out=along[-1])
    return part, np.float32([found[0] for found in axes])


def in_box(vertices: np.ndarray, n: int) -> np.ndarray:
    """Positions (v, 3) float32 in the box of coordinates that count the n nodes of an axis."""
    return (vertices * (2 * BOUND / (n - 1)) - BOUND).astype(np.float32)
