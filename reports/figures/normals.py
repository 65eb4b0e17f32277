"""Normal maps of meshes, by the data room's ray caster, all of one object under one camera."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from data.render import Scene
from data.views import FIELD_OF_VIEW, View, camera, yaw


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
    # The camera's distance follows the farthest vertex: one that no face uses holds it for all meshes alike.
    held = np.concatenate([vertices, [[radius, 0.0, 0.0]]])
    picture = Scene(held, faces).render(view, size, supersample=supersample, keep=("normal",))
    _, axes = camera(view.elevation, radius)
    colour = (picture.normal @ axes.T + 1) / 2
    alpha = picture.image[..., 3:].astype(np.float64) / 255
    return np.clip(colour * alpha + (1 - alpha), 0, 1)


def pixel_of(point: np.ndarray, view: View, *, radius: float, size: int) -> np.ndarray:
    """Where a point (3,) falls in a picture of this view: column and row, not rounded."""
    position, axes = camera(view.elevation, radius)
    x, y, z = axes @ (view.apply(point[None])[0] - position)
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))
    return (np.array([x, -y]) / (-z * half) + 1) * size / 2
