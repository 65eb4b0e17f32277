"""Closed-form fields with known parts, thin ones among them: where a coarse-to-fine extraction could lose something.

A field is -STEEP times the signed distance (exact or a lower bound of its magnitude), positive inside, as the logits
of a decoder are: STEEP is about how fast the logits of a trained decoder change near its surface, a unit of length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STEEP = 60.0
"""By how much a field may change over a unit of length; `faithful.steepest` measures it."""
Distance = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Shape:
    """distance: points (n, 3) -> (n,), negative inside. parts: components of its surface. thinnest: a length."""

    name: str
    distance: Distance
    parts: int
    thinnest: float

    def field(self, points: np.ndarray) -> np.ndarray:
        """Logits (n,) float32 at points (n, 3)."""
        return (-STEEP * self.distance(points)).astype(np.float32)


def _length(p: np.ndarray) -> np.ndarray:
    """Of each of (n, 3): (n,). Several times as fast as `numpy.linalg.norm` along so short an axis."""
    return np.sqrt(np.einsum("ij,ij->i", p, p))


def ball(radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Distance:
    """A ball."""
    return lambda p: _length(p - np.float32(centre)) - radius


def box(half: tuple[float, float, float], centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Distance:
    """A box of these half sides."""

    def distance(p: np.ndarray) -> np.ndarray:
        q = np.abs(p - np.float32(centre)) - np.float32(half)
        largest = np.maximum(np.maximum(q[:, 0], q[:, 1]), q[:, 2])
        return _length(np.maximum(q, 0)) + np.minimum(largest, 0)

    return distance


def rod(radius: float, a: tuple[float, float, float], b: tuple[float, float, float]) -> Distance:
    """A round rod with round ends."""

    def distance(p: np.ndarray) -> np.ndarray:
        start, axis = np.float32(a), np.float32(b) - np.float32(a)
        along = np.clip((p - start) @ axis / (axis @ axis), 0, 1)
        return _length(p - start - along[:, None] * axis) - radius

    return distance


def torus(major: float, minor: float) -> Distance:
    """A ring about +Y."""
    return lambda p: np.hypot(np.hypot(p[:, 0], p[:, 2]) - major, p[:, 1]) - minor


def union(*parts: Distance) -> Distance:
    """All of them."""

    def distance(p: np.ndarray) -> np.ndarray:
        result = parts[0](p)
        for part in parts[1:]:
            np.minimum(result, part(p), out=result)
        return result

    return distance


def shape_of(name: str) -> Shape:
    """The shape of this name."""
    return next(shape for shape in shapes() if shape.name == name)


@functools.cache
def shapes() -> tuple[Shape, ...]:
    """From thick to thinner than a cell of the coarsest grid (0.033 at 64 cells, 0.066 at 32)."""
    corners = [(x, y, z) for x in (-0.6, 0.6) for y in (-0.6, 0.6) for z in (-0.6, 0.6)]
    legs = [box((0.012, 0.4, 0.012), (x, -0.4, z)) for x in (-0.7, 0.7) for z in (-0.5, 0.5)]
    tilted = (0.31, 0.83, -0.43)
    return (
        Shape("ball", ball(0.8, (0.1, -0.05, 0.02)), 1, 1.6),
        Shape("ring", torus(0.7, 0.12), 1, 0.24),
        Shape("shell, 0.03 thick", lambda p: np.abs(ball(0.8)(p)) - 0.015, 2, 0.03),
        Shape("sheet, 0.02 thick", box((0.7, 0.01, 0.7), (0.0, 0.137, 0.0)), 1, 0.02),
        Shape("table on legs of 0.024", union(box((0.8, 0.02, 0.6)), *legs), 1, 0.024),
        Shape("tilted rod, 0.02 thick", rod(0.01, tuple(-x for x in tilted), tilted), 1, 0.02),
        Shape("eight balls of 0.05", union(*(ball(0.025, c) for c in corners)), 8, 0.05),
        Shape("ball and a speck of 0.03", union(ball(0.5), ball(0.015, (0.71, 0.72, 0.69))), 2, 0.03),
        Shape("two sheets, 0.02 apart", union(box((0.6, 0.01, 0.6)), box((0.6, 0.01, 0.6), (0, 0.04, 0))), 2, 0.02),
    )
