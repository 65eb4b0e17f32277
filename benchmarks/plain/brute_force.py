"""Nearest neighbours by all distances in float64: the reference of the metrics."""

from __future__ import annotations

import numpy as np


class Index:
    """Stands for `evaluation.neighbours.Tree`: nearest neighbours among points (n, 3), by all distances."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points

    def query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (m,) and indices (m,) of the nearest to each of points (m, 3)."""
        return distances(points, self.points)


def distances(points: np.ndarray, others: np.ndarray, chunk: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Distance to, and index of, the nearest of others (m, 3) for each of points (n, 3): (n,) each, by differences.

    Differences, not the expanded square, which loses half of the digits.
    """
    points, others = np.asarray(points, np.float64), np.asarray(others, np.float64)
    found, index = np.empty(len(points)), np.empty(len(points), np.int64)
    for start in range(0, len(points), chunk):
        part = points[start : start + chunk]
        square = sum((part[:, axis, None] - others[None, :, axis]) ** 2 for axis in range(3))
        index[start : start + chunk] = square.argmin(axis=1)
        found[start : start + chunk] = np.sqrt(square.min(axis=1))
    return found, index
