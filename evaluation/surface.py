"""Normalise a mesh and sample its surface (steps 2 and 3 of the protocol)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation import backends
from evaluation.backends import Index
from evaluation.load import MeshError


@dataclass(frozen=True)
class Cloud:
    """Samples of a surface, in spatial order. points, normals: (n, 3) float64. draw: (n,) when each was drawn.

    tree: over the points. Neighbours in memory are neighbours in space, which halves the time of a query.
    """

    points: np.ndarray
    normals: np.ndarray
    draw: np.ndarray
    tree: Index

    def first(self, k: int) -> np.ndarray:
        """The first `k` points that were drawn (all, if there are fewer), themselves a fair sample; (k, 3)."""
        return self.points[self.draw < k]


def box(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) and longest side of the bounding box of vertices (n, 3)."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (low + high) / 2, float((high - low).max())


def normalise(vertices: np.ndarray, centre: np.ndarray, longest_side: float) -> np.ndarray:
    """Move `centre` to the origin and scale so that `longest_side` becomes 2. (n, 3) to (n, 3)."""
    if not longest_side > 0:
        raise MeshError("the mesh has no extent")
    return (vertices - centre) * (2.0 / longest_side)


def sample(vertices: np.ndarray, faces: np.ndarray, n: int, rng: np.random.Generator) -> Cloud:
    """`n` independent points, uniform over the area of the triangles (n, 3), with the normals of their faces."""
    drawn = backends.draw(vertices, faces, n, rng)
    if drawn is not None:
        return _ordered(*drawn)
    corners = vertices[faces]
    sides = corners[:, 1:] - corners[:, :1]
    normals = np.cross(sides[:, 0], sides[:, 1])
    areas = np.linalg.norm(normals, axis=1)
    cumulative = np.cumsum(areas)
    random = rng.random((n, 3))
    # side="right" never lands on a face without area: its interval is empty.
    face = np.searchsorted(cumulative, random[:, 0] * cumulative[-1], side="right")
    face = np.minimum(face, np.flatnonzero(areas)[-1])
    u, v = random[:, 1:2], random[:, 2:]
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u), np.where(fold, 1 - v, v)
    points = corners[face, 0] + u * sides[face, 0] + v * sides[face, 1]
    draw = np.argsort(_morton(points), kind="stable")
    points, face = points[draw], face[draw]
    return Cloud(points, normals[face] / areas[face, None], draw, backends.index(points))


def _ordered(points: np.ndarray, normals: np.ndarray) -> Cloud:
    order = np.argsort(_morton(points), kind="stable")
    return Cloud(points[order], normals[order], order, backends.index(points[order]))


def _morton(points: np.ndarray) -> np.ndarray:
    """Position (n,) int64 of each point on a Z-order curve through 128 cells a side of the points' bounding cube."""
    bits = 7
    centre, side = box(points)
    cells = ((points - centre) / max(side, 1e-12) + 0.5) * (1 << bits)
    cells = np.clip(cells, 0, (1 << bits) - 1).astype(np.int64)
    spread = np.array([sum((i >> bit & 1) << 3 * bit for bit in range(bits)) for i in range(1 << bits)])
    return spread[cells] @ np.array([1, 2, 4])
