"""Points on triangles and distances to them: pure functions of arrays."""

from __future__ import annotations

import numpy as np


def sample_triangles(vertices: np.ndarray, faces: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) on every triangle, none of its points farther than about `spacing` from one, and the triangle of
    each (n,). Rows run along the longest edge, so that a sliver costs its length and not its length squared.
    """
    corners = vertices[faces]
    edges = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
    first = edges.argmax(axis=1)
    a, b, apex = (corners[np.arange(len(faces)), (first + i) % 3] for i in range(3))
    longest = np.maximum(edges.max(axis=1), 1e-300)
    height = np.linalg.norm(np.cross(b - a, apex - a), axis=1) / longest
    foot = np.clip(np.einsum("ij,ij->i", apex - a, b - a) / longest**2, 1e-9, 1 - 1e-9)  # of the way from a to b
    rows = np.maximum(1, np.ceil(height / spacing)).astype(np.int64)
    triangle = np.repeat(np.arange(len(faces)), rows)
    low = _counted(rows) / rows[triangle]  # lower side of the row, of the way from the longest edge to the apex
    columns = np.maximum(1, np.ceil(longest[triangle] * (1 - low) / spacing)).astype(np.int64)
    row = np.repeat(np.arange(len(triangle)), columns)
    owner, low, foot = triangle[row], low[row], foot[triangle[row]]
    along = foot * low + (1 - low) * (_counted(columns) + 0.5) / columns[row]
    top = np.minimum(along / foot, (1 - along) / (1 - foot))  # where the triangle ends above this place
    up = np.minimum(low + 0.5 / rows[owner], (low + top) / 2)
    return a[owner] + (along - up * foot)[:, None] * (b - a)[owner] + up[:, None] * (apex - a)[owner], owner


def _counted(counts: np.ndarray) -> np.ndarray:
    """0 … c-1 for every c of `counts`, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def triangle_distance(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Distance from each point (n, 3) to its own triangle (n, 3, 3): (n,)."""
    squared = np.full(len(points), np.inf)
    dots = []
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    for i in range(3):
        start, edge = triangles[:, i], triangles[:, (i + 1) % 3] - triangles[:, i]
        to_point = points - start
        length = np.einsum("ij,ij->i", edge, edge)
        t = np.clip(np.einsum("ij,ij->i", to_point, edge) / np.maximum(length, 1e-300), 0, 1)
        rest = to_point - t[:, None] * edge
        squared = np.minimum(squared, np.einsum("ij,ij->i", rest, rest))
        dots.append(np.einsum("ij,ij->i", np.cross(edge, to_point), normal))
    over = (dots[0] > 0) & (dots[1] > 0) & (dots[2] > 0)  # the foot of the perpendicular is in the triangle
    height = np.einsum("ij,ij->i", points - triangles[:, 0], normal)
    plane = height**2 / np.maximum(np.einsum("ij,ij->i", normal, normal), 1e-300)
    return np.sqrt(np.where(over, plane, squared))
