"""Turn a prediction onto the ground truth: compare many starts, refine the best with ICP (step 4 of the protocol).

Only proper rotations are ever tried, so a mirrored shape stays wrong. Scale is fixed unless the protocol says
`icp: similarity`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from evaluation.icp import icp
from evaluation.metrics import Transform, cd_avg
from evaluation.neighbours import Tree
from evaluation.protocol import Align
from evaluation.surface import Cloud

DISTINCT = 1e-6  # rotations whose matrices differ by less are one


@dataclass(frozen=True)
class Alignment:
    """A transform of the prediction, the start it came from, and the residual of the last ICP run.

    residual: root mean square distance of the matched pairs; NaN without ICP.
    """

    transform: Transform
    start: str
    residual: float


@dataclass(frozen=True)
class _Pair:
    """Points of both surfaces, each (n, 3), with a tree over each."""

    source: np.ndarray
    target: np.ndarray
    source_tree: Tree
    target_tree: Tree

    @staticmethod
    def of(source: np.ndarray, target: np.ndarray) -> _Pair:
        return _Pair(source, target, Tree(source), Tree(target))

    def cd(self, transform: Transform) -> float:
        to_target, _ = self.target_tree.query(transform.apply(self.source))
        to_source, _ = self.source_tree.query(transform.undo(self.target))
        return cd_avg(to_target, to_source * transform.scale)


def align(prediction: Cloud, truth: Cloud, settings: Align) -> Alignment | None:
    """The best refined start by CD-avg on `icp_points` points; None where the protocol does not align.

    Whether it is accepted is the caller's choice, who knows the numbers without it.
    """
    if settings.starts == "none":
        return None
    few = _Pair.of(prediction.first(settings.subset), truth.first(settings.subset))
    turns = {name: Transform(rotation, np.zeros(3), 1.0) for name, rotation in starts(settings).items()}
    kept = sorted(turns, key=lambda name: few.cd(turns[name]))[: settings.keep]
    many = _Pair.of(prediction.first(settings.icp_points), truth.first(settings.icp_points))
    if settings.icp == "none":
        refined = [Alignment(turns[name], name, float("nan")) for name in kept]
    else:
        refined = [_icp(many, name, turns[name], settings) for name in kept]
    return min(refined, key=lambda alignment: many.cd(alignment.transform))


def starts(settings: Align) -> dict[str, np.ndarray]:
    """Distinct candidate rotations (3, 3) by name: yaw turns, times the octahedral group if the pose is free."""
    turns = {"yaw_0": np.eye(3)}
    if settings.starts == "yaw":
        degrees = [360.0 * step / settings.yaw_steps for step in range(settings.yaw_steps)]
        turns = {f"yaw_{angle:g}": _yaw(angle) for angle in degrees}
    if not settings.free_pose:
        return turns
    found: dict[str, np.ndarray] = {}
    for (name, turn), (index, pose) in itertools.product(turns.items(), enumerate(octahedral_group())):
        rotation = turn @ pose
        if all(np.abs(rotation - other).max() > DISTINCT for other in found.values()):
            found[f"{name}_pose_{index}"] = rotation
    return found


def _yaw(degrees: float) -> np.ndarray:
    """Rotation about +Y."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def octahedral_group() -> list[np.ndarray]:
    """The 24 proper rotations that map the axes onto the axes, the identity first."""
    matrices = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                matrices.append(matrix)
    return matrices


def _icp(pair: _Pair, name: str, start: Transform, settings: Align) -> Alignment:
    """ICP from a start, one run for each correspondence distance."""
    scaling, matrix, residual = settings.icp == "similarity", np.eye(4), float("nan")
    matrix[:3, :3] = start.rotation
    for distance in settings.correspondence:
        found = icp(
            pair.source, pair.target, pair.target_tree, matrix, distance,
            iterations=settings.iterations, tolerance=settings.tolerance, scaling=scaling,
        )  # fmt: skip
        if found is None:
            break
        matrix, residual = found
    transform = _decompose(matrix, scaling=scaling)
    return Alignment(start, name, float("nan")) if transform is None else Alignment(transform, name, residual)


def _decompose(matrix: np.ndarray, *, scaling: bool) -> Transform | None:
    """Scale, rotation and translation of a similarity matrix (4, 4); None if it is none with a proper rotation."""
    linear = matrix[:3, :3]
    determinant = np.linalg.det(linear)
    if not np.isfinite(matrix).all() or determinant <= 1e-6:
        return None
    u, _, vt = np.linalg.svd(linear)  # the nearest rotation: removes the rounding of many small steps
    return Transform(u @ vt, matrix[:3, 3].copy(), float(np.cbrt(determinant)) if scaling else 1.0)
