"""Point-to-point ICP by all distances in float64: the reference of `evaluation.icp`."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.plain.brute_force import distances


def icp(
    source: np.ndarray, target: np.ndarray, _: Any, matrix: np.ndarray, distance: float,
    *, iterations: int, tolerance: float, scaling: bool,
) -> tuple[np.ndarray, float] | None:  # fmt: skip
    """Stands for `evaluation.icp.icp`, without its tree.

    A matrix (4, 4) that moves source (n, 3) onto target (m, 3), and the root mean square of matched pairs.

    Pairs are nearest neighbours within the distance. Ends after so many iterations, or when neither the share of
    matched points nor the root mean square changes by more than the tolerance. None where nothing is matched.
    """
    moved = _apply(matrix, source)
    before = found = _matched(moved, target, distance)
    for _ in range(iterations):
        if not found[0].any():
            break
        update = fitted(moved[found[0]], target[found[1][found[0]]], scaling=scaling)
        matrix, moved = update @ matrix, _apply(update, moved)
        before, found = found, _matched(moved, target, distance)
        if all(abs(old - new) < tolerance for old, new in zip(before[2:], found[2:], strict=True)):
            break
    return (matrix, found[3]) if found[0].any() else None


def _matched(moved: np.ndarray, target: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Which points (n,) are matched, with which of the target, their share, and the root mean square distance."""
    far, nearest = distances(moved, target)
    near = far < distance
    return near, nearest, float(near.mean()), float(np.sqrt((far[near] ** 2).mean())) if near.any() else 0.0


def fitted(source: np.ndarray, target: np.ndarray, *, scaling: bool) -> np.ndarray:
    """The similarity (4, 4) of least squares between pairs (n, 3); without scaling a rigid motion (Umeyama 1991)."""
    a, b = source.mean(0), target.mean(0)
    u, singular, vt = np.linalg.svd((target - b).T @ (source - a) / len(source))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    scale = float(singular @ signs / ((source - a) ** 2).sum(1).mean()) if scaling else 1.0
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, b - scale * rotation @ a
    return matrix


def _apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]
