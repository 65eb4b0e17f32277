"""The hierarchical decoding that Hunyuan3D-2 describes (FlashVDM, arXiv 2503.16302), written from its description.

1. Halve the resolution while the half is at least 63 cells; evaluate that grid densely.
2. A node is active if a neighbour along an axis has the other sign, or if |value| < band.
3. Grow the active nodes by one node in all directions, except before the last grid; put them on the finer grid; grow by
   one there, by two on the last grid.
4. Evaluate these; the others are NaN, and faces that marching cubes puts between a number and NaN are left out.

Its band of 0.95 is for truncated distances that reach 1; for logits it is ours.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation

from methods.layers.extraction import Field, nodes
from methods.layers.extraction import surface as cubes

SMALLEST = 63
BOX = np.ones((3, 3, 3), bool)


def evaluate(field: Field, cells: int, *, band: float, smallest: int = SMALLEST) -> np.ndarray:
    """Values (cells + 1,)^3 of the field, NaN where they were not asked for."""
    levels = [cells]
    while levels[-1] % 2 == 0 and levels[-1] // 2 >= smallest:
        levels.append(levels[-1] // 2)
    size = levels.pop() + 1
    values = field(nodes(np.argwhere(np.ones((size,) * 3, bool)), size - 1)).reshape((size,) * 3)
    for level in reversed(levels):
        last = level == cells
        active = _active(values, band)
        if not last:
            active = binary_dilation(active, BOX)
        mask = np.zeros((level + 1,) * 3, bool)
        mask[::2, ::2, ::2] = active
        index = np.argwhere(binary_dilation(mask, BOX, iterations=2 if last else 1))
        values = np.full((level + 1,) * 3, np.nan, np.float32)
        values[tuple(index.T)] = field(nodes(index, level))
    return values


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
