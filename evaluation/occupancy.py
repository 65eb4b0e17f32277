"""Which cells of a grid lie inside a mesh, by winding number, and the volume IoU of two meshes.

Every column of cell centres is one line through the mesh; a crossing changes the winding number of all cells
beyond it by one, with the sign of the face. The crossings are found by rasterising the triangles, with a rule for
ties that both triangles at an edge share: a line through a vertex or along an edge is never counted twice or missed.
For a closed mesh one axis is exact. For an open one the mean over the six axis directions stands in for the
generalised winding number, which is the mean over all directions. A backend may say it of a closed mesh instead
(`evaluation.backends.inside`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evaluation import backends

CHUNK = 1 << 21  # triangle-column pairs at a time: bounds the memory


def occupancy(vertices: np.ndarray, faces: np.ndarray, resolution: int, *, watertight: bool) -> np.ndarray:
    """Cells of [-1, 1]^3 whose centre has a winding number beyond one half, of either sign.

    vertices: (n, 3). faces: (m, 3). Returns (resolution,) * 3 bool, indexed x, y, z.
    """
    cells = (np.asarray(vertices, dtype=np.float64) + 1.0) * (resolution / 2) - 0.5  # centre of cell i is at i
    if watertight:
        found = backends.inside(cells, faces, resolution)
        if found is not None:
            return found
        return np.abs(_winding(cells, faces, resolution, axis=2)) > 0.5
    mean = sum(_winding(cells, faces, resolution, axis=axis) for axis in range(3)) / 3
    return np.abs(mean) > 0.5


def volume_iou(a: np.ndarray, b: np.ndarray) -> float:
    """|A and B| / |A or B| of two boolean grids; NaN if both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else float("nan")


def _winding(cells: np.ndarray, faces: np.ndarray, n: int, *, axis: int) -> np.ndarray:
    """Winding numbers (n, n, n) float32 from lines along one axis, the mean of both directions.

    cells: (k, 3) vertices in units of cells.
    """
    order = [(axis + 1) % 3, (axis + 2) % 3, axis]  # a cyclic shift, so that orientation is kept
    layers = np.zeros(n * n * (n + 1), dtype=np.float32)
    for column, layer, sign in _crossings(cells[:, order], faces, n):
        layers += np.bincount(column * (n + 1) + layer, weights=sign, minlength=len(layers)).astype(np.float32)
    layers = layers.reshape(n, n, n + 1)
    # Upward through a face that looks upward is a way out: minus one. The line from above sees the same with the
    # total of its column added; for a closed mesh that total is zero.
    below = np.cumsum(layers, axis=2, dtype=np.float32)
    winding = below[:, :, -1:] / 2 - below[:, :, :-1]
    return np.ascontiguousarray(np.moveaxis(winding, (0, 1, 2), order))


def _crossings(cells: np.ndarray, faces: np.ndarray, n: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Where columns meet triangles: chunks of (column index, first layer beyond, sign of the face seen from above)."""
    corners = cells[faces]
    low = np.clip(np.ceil(corners[:, :, :2].min(axis=1)), 0, n).astype(np.int64)
    high = np.clip(np.floor(corners[:, :, :2].max(axis=1)), -1, n - 1).astype(np.int64)
    size = np.maximum(high - low + 1, 0)
    count = size[:, 0] * size[:, 1]
    hit = np.flatnonzero(count)
    ends = np.cumsum(count[hit])
    first = 0
    while first < len(hit):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        yield _rasterise(cells, faces, hit[first:last], low, size, n)
        first = last


def _rasterise(
    cells: np.ndarray, faces: np.ndarray, chosen: np.ndarray, low: np.ndarray, size: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One chunk of `_crossings`: the chosen faces, each over the columns `low` to `low + size` of its bounding box."""
    repeats = size[chosen, 0] * size[chosen, 1]
    face = np.repeat(chosen, repeats)
    within = np.arange(len(face)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    x = low[face, 0] + within // size[face, 1]
    y = low[face, 1] + within % size[face, 1]
    sign = np.zeros(len(face), dtype=np.int64)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        sign += _edge_crossing(cells, faces[face, i], faces[face, j], x, y)
    inside = np.flatnonzero(sign)
    face, x, y, sign = face[inside], x[inside], y[inside], sign[inside]
    a, b, c = (cells[faces[face, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    with np.errstate(divide="ignore", invalid="ignore"):
        height = a[:, 2] - (normal[:, 0] * (x - a[:, 0]) + normal[:, 1] * (y - a[:, 1])) / normal[:, 2]
    ends = np.stack([a[:, 2], b[:, 2], c[:, 2]])
    height = np.clip(np.nan_to_num(height, nan=0.0), ends.min(axis=0), ends.max(axis=0))  # rounding sends slivers far
    return x * n + y, np.clip(np.ceil(height), 0, n).astype(np.int64), sign


def _edge_crossing(cells: np.ndarray, start: np.ndarray, end: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed crossings of the half-line from (x, y) to +x with an edge: their sum round a triangle is its winding.

    Computed from the lower vertex index to the higher and then given the sign of the direction asked for, so that
    the two triangles at an edge get exactly opposite values, whatever the rounding.
    """
    swap = start > end
    a, b = cells[np.where(swap, end, start)], cells[np.where(swap, start, end)]
    area = (b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])
    up = (a[:, 1] <= y) & (y < b[:, 1]) & (area > 0)
    down = (b[:, 1] <= y) & (y < a[:, 1]) & (area < 0)
    value = up.astype(np.int64) - down.astype(np.int64)
    return np.where(swap, -value, value)
