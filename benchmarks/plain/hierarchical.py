"""The hierarchical decoding that Hunyuan3D-2 describes (FlashVDM, arXiv 2503.16302), written from its description.

1. Halve the resolution while the half is at least 63 cells; evaluate that grid densely.
2. A node is active if a neighbour along an axis has the other sign, or if |value| < band.
3. Grow the active nodes by one node in all directions, except before the last grid; put them on the finer grid; grow by
   one there, by two on the last grid.
4. Evaluate these; the others are NaN, and faces that marching cubes puts between a number and NaN are left out.

Its band of 0.95 is for truncated distances that reach 1; for logits we take 3, as about as close to the surface.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from methods.layers.coarse_to_fine import Field
from methods.layers.extraction import nodes
from methods.layers.extraction import surface as cubes

SMALLEST, BAND = 63, 3.0


def evaluate(field: Field, cells: int, *, band: float = BAND, smallest: int = SMALLEST) -> np.ndarray:
    """Values (cells + 1,)^3 of the field, NaN where they were not asked for."""
    levels = [cells]
    while levels[-1] % 2 == 0 and levels[-1] // 2 >= smallest:
        levels.append(levels[-1] // 2)
    size = levels.pop() + 1
    values = field(nodes(np.stack(np.indices((size,) * 3), -1).reshape(-1, 3), size - 1)).reshape((size,) * 3)
    for level in reversed(levels):
        last = level == cells
        active = _active(values, band)
        if not last:
            active = grown(active)
        near = np.flatnonzero(on_finer(active, 2 if last else 1))
        values = np.full((level + 1,) * 3, np.nan, np.float32)
        np.put(values, near, field(nodes(np.stack(np.unravel_index(near, values.shape), -1), level)))
    return values


def grown(active: np.ndarray) -> np.ndarray:
    """Active nodes (n, n, n) and those around them, diagonals too."""
    side = np.arange(len(active))
    return _any(active, (side - 1, side, side + 1))


def on_finer(active: np.ndarray, by: int) -> np.ndarray:
    """Nodes of the grid of twice as many cells that are at most `by` (1 or 2) from an active node along each axis.

    Coarse node k is fine node 2 k: near j are those from (j - by) / 2, rounded up, to (j + by) / 2, rounded down.
    """
    fine = np.arange(2 * len(active) - 1)
    return _any(active, [(fine + shift) // 2 for shift in ((0, 1) if by == 1 else (-1, 1, 2))])


def _any(active: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Whether one of these places is active, taken axis by axis; a place beyond the grid is its end.

    As our own extraction does it, so that what is compared is how much is asked, not how fast a grid is grown.
    """
    for axis in (2, 1, 0):  # the first axis last: then whole planes are copied
        active = functools.reduce(np.logical_or, (active.take(place, axis, mode="clip") for place in places))
    return active


def surface(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """`methods.layers.extraction.surface` of values with NaN among them; None where no face is left."""
    found = cubes(values)
    if found is None:
        return None
    vertices, faces = found
    kept = np.isfinite(vertices).all(axis=1)
    faces = faces[kept[faces].all(axis=1)]
    used, faces = np.unique(faces, return_inverse=True)
    return (vertices[used], faces.reshape(-1, 3)) if len(used) else None


def _active(values: np.ndarray, band: float) -> np.ndarray:
    active = np.abs(values) < band  # false for NaN
    known, inside = ~np.isnan(values), values > 0
    for axis in range(3):
        lower, upper = [slice(None)] * 3, [slice(None)] * 3
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(lower), tuple(upper)
        changes = (inside[a] != inside[b]) & known[a] & known[b]
        active[a] |= changes
        active[b] |= changes
    return active
