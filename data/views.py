"""A view: how an object is turned, sized and placed before the camera, and where the camera stands.

The view frame of a view is `x_view = scale * (rotation @ x) - offset`: the turned object with its bounding box
centred at the origin again and its longest side 1.9. The camera stands over +Z, raised by the elevation, looks at
the origin with a 40 degree field of view, and +Y is up. A method predicts in the view frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.box import LONGEST_SIDE

FIELD_OF_VIEW = 40.0  # degrees, both axes
FILL = 0.9  # of the frame's width is what the object's bounding sphere takes
ELEVATIONS = (-10.0, 30.0)  # degrees, uniform


@dataclass(frozen=True)
class View:
    """One view of one object: `rotation` (3, 3) f32, `scale`, `offset` (3,) f32, camera angles in degrees."""

    rotation: np.ndarray
    scale: float
    offset: np.ndarray
    elevation: float
    azimuth: float
    upright: bool

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Canonical points (n, 3) to float32 points of the view frame."""
        return (np.float32(self.scale) * (points @ self.rotation.T) - self.offset).astype(np.float32)

    def rotate(self, normals: np.ndarray) -> np.ndarray:
        """Canonical directions (n, 3) to float32 directions of the view frame."""
        return (normals @ self.rotation.T).astype(np.float32)


@dataclass(frozen=True)
class Pose:
    """What is decided about a view before the object is seen: its turn and its camera angles."""

    rotation: np.ndarray
    elevation: float
    azimuth: float
    upright: bool


def yaw(degrees: float) -> np.ndarray:
    """Rotation (3, 3) about +Y."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A uniformly random rotation (3, 3), from a uniformly random unit quaternion."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def plan_views(azimuths: int, rotations: int, rng: np.random.Generator, first_azimuth: float = 0.0) -> list[Pose]:
    """`azimuths` upright poses evenly round the object, then `rotations` randomly turned ones for each azimuth.

    first_azimuth: of the first pose, degrees.
    """
    turns = [np.eye(3)] * azimuths + [random_rotation(rng) for _ in range(azimuths * rotations)]
    angles = [(first_azimuth + 360.0 * (k % azimuths) / azimuths) % 360 for k in range(len(turns))]
    elevations = rng.uniform(*ELEVATIONS, size=len(turns))
    return [
        Pose(yaw(angle) @ turn, float(elevation), angle, k < azimuths)
        for k, (turn, angle, elevation) in enumerate(zip(turns, angles, elevations, strict=True))
    ]


def fit_view(pose: Pose, vertices: np.ndarray) -> View:
    """The view of a pose for these canonical vertices (n, 3): its box centred, its longest side 1.9."""
    rotation = pose.rotation.astype(np.float32)
    turned = np.asarray(vertices, np.float64) @ rotation.T.astype(np.float64)
    low, high = turned.min(0), turned.max(0)
    scale = np.float32(LONGEST_SIDE / (high - low).max())
    offset = (float(scale) * (low + high) / 2).astype(np.float32)
    elevation, azimuth = float(np.float32(pose.elevation)), float(np.float32(pose.azimuth))  # as they are stored
    return View(rotation, float(scale), offset, elevation, azimuth, pose.upright)


def camera(elevation: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Position (3,) and axes (3, 3; rows right, up, backward) of the camera in the view frame.

    `radius` is the object's largest distance from the origin; its sphere's outline takes FILL of the frame.
    """
    e = np.radians(elevation)
    backward = np.array([0.0, np.sin(e), np.cos(e)])
    axes = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(e), -np.sin(e)], backward])
    half = np.tan(np.radians(FIELD_OF_VIEW / 2))
    return backward * radius / np.sin(np.arctan(FILL * half)), axes
