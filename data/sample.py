"""Points on a surface and inside a box: what the autoencoder learns from."""

from __future__ import annotations

import numpy as np


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (m, 3) and areas (m,) of faces in float64; a face without area has a zero normal."""
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return cross / np.where(length > 0, length, 1.0)[:, None], length / 2


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, n: int, *, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """`n` points, uniform by area, with their face normals: (n, 3) each, float64, in random order.

    The order carries no meaning, so every prefix is itself a uniform sample: N, N/4 and N/16 points are the levels
    of the pyramid. Raises ValueError for a mesh without area.
    """
    normals, areas = face_normals(vertices, faces)
    total = np.cumsum(areas)
    if not len(faces) or not total[-1] > 0:
        raise ValueError("the surface has no area")
    chosen = np.searchsorted(total, rng.random(n) * total[-1], side="right").clip(max=len(faces) - 1)
    u, v = rng.random((2, n, 1))
    root = np.sqrt(u)  # uniform in a triangle: Osada et al., "Shape Distributions", 2002, section 4.2
    a, b, c = (np.asarray(vertices, np.float64)[faces[chosen, k]] for k in range(3))
    return (1 - root) * a + root * (1 - v) * b + root * v * c, normals[chosen]
