"""Where a solid is thin: the distance through it, wall to wall (the shape diameter of Shapira et al., 2008)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from scipy.spatial import cKDTree

from data.sample import face_normals, sample_surface
from data.views import View, camera
from reports.figures.normals import look, radius_of

SAMPLES = 4000  # points of the surface that are measured
NEIGHBOURS = 16  # a place is as thin as the median of that many samples nearest to it
PARALLEL = 30.0  # degrees: walls that open wider are an edge, whose distance falls to zero, and not a thin part
RIM = 1.0  # a place counts where the wall ends within that many thicknesses: inside a large wall nothing looks thin
DIRECTIONS = 8  # along the wall, in which its end is looked for
STEP = 1e-4  # into the solid, so that a ray does not meet the wall that it starts from
ELEVATIONS, AZIMUTHS = (-50.0, -20.0, 10.0, 40.0, 70.0), 16
OBLIQUE = 80.0  # degrees from the wall's normal towards its rim is where it is looked at from: nearly along the wall


@dataclass(frozen=True)
class ThinPlace:
    """A point (3,) of the surface, its outward normal, the thickness there, and a view that sees it."""

    point: np.ndarray
    normal: np.ndarray
    thickness: float
    view: View


class Solid:
    """A closed mesh with outward faces, ready for rays; vertices (n, 3), faces (m, 3)."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self.vertices, self.faces = np.asarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32)
        self.normals, _ = face_normals(vertices, faces)
        self._scene = EmbreeScene(robust=True)
        TriangleMesh(self._scene, self.vertices, self.faces)

    def hits(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What rays meet first: distance (n,) in units of the direction, or inf, and the face (n,), or -1."""
        rays = [np.ascontiguousarray(a, np.float32) for a in (origins, directions)]
        found = self._scene.run(*rays, output=True)
        return np.where(found["primID"] >= 0, found["tfar"].astype(np.float64), np.inf), found["primID"]

    def thickness(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Distance (n,) from surface points (n, 3) straight through the solid; inf if the far wall is not parallel."""
        distance, face = self.hits(points - STEP * normals, -normals)
        opposite = -np.einsum("ij,ij->i", self.normals[face], normals)
        return np.where(np.isfinite(distance) & (opposite > np.cos(np.radians(PARALLEL))), distance + STEP, np.inf)

    def rim(self, points: np.ndarray, normals: np.ndarray, thickness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance (n,) along the wall, from its middle, to where it ends, and the direction (n, 3) of that end."""
        helper = np.eye(3)[np.abs(normals).argmin(1)]
        first = np.cross(normals, helper)
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second = np.cross(normals, first)
        middle = points - normals * thickness[:, None] / 2
        angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
        turned = [first * np.cos(angle) + second * np.sin(angle) for angle in angles]
        distances = np.stack([self.hits(middle, direction)[0] for direction in turned])
        nearest = distances.argmin(0)
        rows = np.arange(len(points))
        return distances[nearest, rows], np.stack(turned)[nearest, rows]


def thinnest(vertices: np.ndarray, faces: np.ndarray, *, rng: np.random.Generator) -> ThinPlace | None:
    """The thinnest place near a wall's end that some view sees, or None if the solid has no two near-parallel walls.

    Of points drawn by area each gets the median thickness of its nearest ones, so that no single ray decides.
    """
    solid = Solid(vertices, faces)
    points, normals = sample_surface(vertices, faces, SAMPLES, rng=rng)
    raw = solid.thickness(points, normals)
    _, near = cKDTree(points).query(points, k=NEIGHBOURS)
    smooth = np.sort(raw[near], axis=1)[:, NEIGHBOURS // 2]
    walls = np.flatnonzero(np.isfinite(smooth) & np.isfinite(raw))
    walls = walls[np.argsort(smooth[walls], kind="stable")]
    ends, towards = solid.rim(points[walls], normals[walls], raw[walls])
    for i, end, direction in zip(walls, ends, towards, strict=True):
        if end > RIM * smooth[i]:
            continue
        angle = np.radians(OBLIQUE)
        view = _view_of(solid, points[i], normals[i], np.cos(angle) * normals[i] + np.sin(angle) * direction)
        if view is not None:
            return ThinPlace(points[i], normals[i], float(smooth[i]), view)
    return None


def _view_of(solid: Solid, point: np.ndarray, normal: np.ndarray, wish: np.ndarray) -> View | None:
    """Of the views that see the point, the one nearest to the direction `wish`; None if it is hidden."""
    radius, best, found = radius_of([solid.vertices]), -np.inf, None
    for elevation in ELEVATIONS:
        for k in range(AZIMUTHS):
            view = look(elevation, 360.0 * k / AZIMUTHS)
            position, _ = camera(elevation, radius)
            eye = position @ view.rotation  # the camera, turned back to where the solid stands
            sight = point - eye
            likeness = -float(sight @ wish) / np.linalg.norm(sight)
            if sight @ normal >= 0 or likeness <= best:
                continue
            distance, _ = solid.hits(eye[None], sight[None])
            if abs(distance[0] - 1) < 1e-3:
                best, found = likeness, view
    return found
