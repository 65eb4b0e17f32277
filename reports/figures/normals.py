"""Normal maps of meshes, by the data room's ray caster or a rasteriser on a GPU, all of one object under one camera."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from data.render import Scene
from data.sample import face_normals
from data.views import FIELD_OF_VIEW, View, camera, yaw
from evaluation import backends


def look(elevation: float, azimuth: float = 0.0) -> View:
    """A view of things that are in the view frame already, from this elevation, turned by this azimuth (degrees)."""
    turn = yaw(azimuth).astype(np.float32)
    return View(turn, 1.0, np.zeros(3, np.float32), elevation, azimuth, True)


def radius_of(meshes: Iterable[np.ndarray]) -> float:
    """The largest distance of any vertex (n, 3) from the origin: what the camera must see."""
    return max(float(np.linalg.norm(vertices, axis=1).max()) for vertices in meshes)


def normal_map(
    vertices: np.ndarray, faces: np.ndarray, view: View, *, radius: float, size: int, supersample: int = 2
) -> np.ndarray:
    """Normals in camera axes (red right, green up, blue to the camera) on white: (size, size, 3) in [0, 1].

    radius: of what the camera frames, at least the mesh's own, so that several meshes share one camera.
    """
    normal, alpha = _rasterised(vertices, faces, view, radius, size, supersample) or _cast(
        vertices, faces, view, radius, size, supersample
    )
    return np.clip((normal + 1) / 2 * alpha + (1 - alpha), 0, 1)


def _cast(
    vertices: np.ndarray, faces: np.ndarray, view: View, radius: float, size: int, supersample: int
) -> tuple[np.ndarray, np.ndarray]:
    """Normals in camera axes (size, size, 3) and covered shares (size, size, 1), by casting rays."""
    # The camera's distance follows the farthest vertex: one that no face uses holds it for all meshes alike.
    held = np.concatenate([vertices, [[radius, 0.0, 0.0]]])
    picture = Scene(held, faces).render(view, size, supersample=supersample, keep=("normal",))
    _, axes = camera(view.elevation, radius)
    return picture.normal @ axes.T, picture.image[..., 3:].astype(np.float64) / 255


def _rasterised(
    vertices: np.ndarray, faces: np.ndarray, view: View, radius: float, size: int, supersample: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """The same by the backend in use (`evaluation.backends.visible`); None where it is the CPU path."""
    position, axes = camera(view.elevation, radius)
    points = (view.apply(vertices) - position) @ axes.T
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))
    seen = backends.visible(points, faces, tangent=half, size=size * supersample)
    if seen is None:
        return None
    normals = face_normals(points, faces)[0]
    away = np.einsum("ij,ij->i", normals, points[faces[:, 0]]) > 0  # the camera is the origin
    normals[away] *= -1
    samples = np.where(seen[..., None] >= 0, normals[seen], 0.0)
    total = samples.reshape(size, supersample, size, supersample, 3).sum((1, 3))
    total /= np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-6)
    covered = (seen >= 0).reshape(size, supersample, size, supersample).mean((1, 3))
    return total, np.rint(covered * 255)[..., None] / 255


def pixel_of(point: np.ndarray, view: View, *, radius: float, size: int) -> np.ndarray:
    """Where a point (3,) falls in a picture of this view: column and row, not rounded."""
    position, axes = camera(view.elevation, radius)
    x, y, z = axes @ (view.apply(point[None])[0] - position)
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))
    return (np.array([x, -y]) / (-z * half) + 1) * size / 2
