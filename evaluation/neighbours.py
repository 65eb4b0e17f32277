"""Nearest neighbours among points, by pykdtree: exact, in float64."""

from __future__ import annotations

import numpy as np
from pykdtree.kdtree import KDTree


class Tree:
    """Nearest neighbours among points (n, 3) float64, n at least 1."""

    def __init__(self, points: np.ndarray) -> None:
        self._tree = KDTree(np.ascontiguousarray(points, np.float64))

    def query(self, points: np.ndarray, *, within: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Distances (m,) float64 and indices (m,) of the nearest of the tree's points to each of points (m, 3).

        within: search no farther, which is faster; where there is none so near, the distance is infinite, and the index
        none of the tree's.
        """
        return self._tree.query(np.ascontiguousarray(points, np.float64), distance_upper_bound=within)
