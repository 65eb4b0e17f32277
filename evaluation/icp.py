"""Point-to-point ICP (Besl and McKay, 1992) with pairs within a distance, as Open3D's `registration_icp` runs it.

Tests compare both. It stands here because a search that is bounded by the distance, in trees of pykdtree, is faster
(docs/log.md, `trees of pykdtree`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.neighbours import Tree


@dataclass(frozen=True)
class _Pairs:
    """source, target: matched points, (k, 3) each. share: k over all. residual: root mean square of their distances."""

    source: np.ndarray
    target: np.ndarray
    share: float
    residual: float


def icp(
    source: np.ndarray, target: np.ndarray, tree: Tree, start: np.ndarray, distance: float,
    *, iterations: int, tolerance: float, scaling: bool,
) -> tuple[np.ndarray, float] | None:  # fmt: skip
    """A matrix (4, 4) that moves source (n, 3) onto target (m, 3), and the root mean square distance of matched pairs.

    tree: over the target. start: a matrix (4, 4). A point is matched with its nearest neighbour, if that is nearer than
    `distance`. Ends after so many iterations, or when neither the share of matched points nor the root mean square
    changes by as much as the tolerance. scaling: find a scale too. None where nothing is matched.
    """
    matrix, moved = start, moved_by(start, source)
    found = _matched(moved, target, tree, distance)
    for _ in range(iterations):
        if not found.share:
            return None
        update = fitted(found.source, found.target, scaling=scaling)
        matrix, moved = update @ matrix, moved_by(update, moved)
        before, found = found, _matched(moved, target, tree, distance)
        if abs(found.share - before.share) < tolerance and abs(found.residual - before.residual) < tolerance:
            break
    return (matrix, found.residual) if found.share else None


def _matched(moved: np.ndarray, target: np.ndarray, tree: Tree, distance: float) -> _Pairs:
    far, nearest = tree.query(moved, within=distance)
    near = np.flatnonzero(far < distance)
    residual = float(np.sqrt(np.square(far[near]).mean())) if len(near) else 0.0
    return _Pairs(moved[near], target[nearest[near]], len(near) / len(moved), residual)


def fitted(source: np.ndarray, target: np.ndarray, *, scaling: bool) -> np.ndarray:
    """The similarity (4, 4) of least squares from source to target (n, 3); without scaling a rigid motion.

    Umeyama, 1991. Never a mirror image.
    """
    middle, other = source.mean(0), target.mean(0)
    a, b = source - middle, target - other
    u, singular, vt = np.linalg.svd(np.einsum("ni,nj->ij", b, a))  # not by BLAS, whose threads change the last digits
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = (u * signs) @ vt
    if scaling:
        with np.errstate(invalid="ignore"):  # of points in one place: no number, and the result matches nothing
            linear = linear * (singular @ signs / np.square(a).sum())
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, other - linear @ middle
    return matrix


def moved_by(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) under a matrix (4, 4)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
