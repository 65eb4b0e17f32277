"""Distances between two sampled surfaces: Chamfer, F-score, normal consistency.

Symbols as in docs/protocol.md, section 3: d_P is the distance of each predicted sample to the nearest sample of
the ground truth, d_G the reverse; CD-avg = (mean d_P + mean d_G) / 2, CD-sum = 2 CD-avg,
CD-sq = mean d_P^2 + mean d_G^2; F@t = 2pr / (p + r) with p = mean[d_P < t], r = mean[d_G < t].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluation.surface import Cloud


@dataclass(frozen=True)
class Transform:
    """x -> scale * rotation @ x + translation, a proper rotation (determinant +1) and a positive scale."""

    rotation: np.ndarray
    translation: np.ndarray
    scale: float

    @staticmethod
    def identity() -> Transform:
        """The transform that leaves every point where it is."""
        return Transform(np.eye(3), np.zeros(3), 1.0)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) to (n, 3)."""
        return self.scale * (points @ self.rotation.T) + self.translation

    def undo(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) to (n, 3), the inverse of `apply`."""
        return ((points - self.translation) / self.scale) @ self.rotation

    @property
    def degrees(self) -> float:
        """Angle of the rotation, 0 to 180. From sine and cosine, so that small angles keep their digits."""
        r = self.rotation
        sine = np.linalg.norm([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / 2
        return float(np.degrees(np.arctan2(sine, (np.trace(r) - 1) / 2)))


@dataclass(frozen=True)
class Nearest:
    """Both directions of nearest neighbours: distances (n,) and cosines between the two normals (n,)."""

    prediction: np.ndarray
    truth: np.ndarray
    prediction_cosine: np.ndarray
    truth_cosine: np.ndarray


def nearest(prediction: Cloud, truth: Cloud, transform: Transform) -> Nearest:
    """Nearest neighbours between the transformed prediction and the truth, in units of the truth."""
    d_p, at_truth = truth.tree.query(transform.apply(prediction.points))
    # The tree of the prediction stays where it is: the truth is moved back instead, and distances are scaled.
    d_g, at_prediction = prediction.tree.query(transform.undo(truth.points))
    normals = prediction.normals @ transform.rotation.T
    cosine_p = np.einsum("ij,ij->i", normals, truth.normals[at_truth])
    cosine_g = np.einsum("ij,ij->i", truth.normals, normals[at_prediction])
    return Nearest(d_p, d_g * transform.scale, cosine_p, cosine_g)


def cd_avg(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the two mean distances."""
    return float((prediction.mean() + truth.mean()) / 2)


def fscore(prediction: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """Harmonic mean of precision and recall at a distance; 0 where both are 0."""
    precision, recall = float((prediction < threshold).mean()), float((truth < threshold).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def surface_metrics(near: Nearest, thresholds: tuple[float, ...]) -> dict[str, float]:
    """All numbers that follow from nearest neighbours, by column name."""
    d_p, d_g = near.prediction, near.truth
    average = cd_avg(d_p, d_g)
    row = {"cd_avg": average, "cd_sum": 2 * average, "cd_sq": float((d_p**2).mean() + (d_g**2).mean())}
    row |= {f"fscore_{threshold:g}": fscore(d_p, d_g, threshold) for threshold in thresholds}
    row["nc"] = float((np.abs(near.prediction_cosine).mean() + np.abs(near.truth_cosine).mean()) / 2)
    row["nc_signed"] = float((near.prediction_cosine.mean() + near.truth_cosine.mean()) / 2)
    return row
