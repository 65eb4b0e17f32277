"""One prediction against one ground truth: the numbers of a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.randomness import numpy_rng
from evaluation import metrics, occupancy, placement, surface
from evaluation.align import align
from evaluation.load import Triangles
from evaluation.metrics import Transform
from evaluation.protocol import Protocol
from evaluation.surface import Cloud

BEFORE = "_before"


@dataclass(frozen=True)
class Truth:
    """A ground truth made ready: normalised vertices (n, 3), its samples, its occupied cells by resolution."""

    mesh: Triangles
    vertices: np.ndarray
    cloud: Cloud
    grids: dict[int, np.ndarray]


def prepare_truth(mesh: Triangles, protocol: Protocol, name: str) -> Truth:
    """Normalise and sample the ground truth; `name` (of the object) seeds the samples.

    Raises `MeshError` if it has no extent.
    """
    vertices = placement.normalised(mesh.vertices, mesh.vertices, protocol)
    cloud = surface.sample(vertices, mesh.faces, protocol.points, numpy_rng("evaluation", protocol.name, name, "truth"))
    grids = {}
    if mesh.watertight:
        grids = {n: occupancy.occupancy(vertices, mesh.faces, n, watertight=True) for n in protocol.viou}
    return Truth(mesh, vertices, cloud, grids)


def score(prediction: Triangles, truth: Triangles, protocol: Protocol, *, name: str = "") -> dict[str, float | str]:
    """Align and measure one pair.

    Returns the metric columns of the protocol after alignment, the same with the suffix `_before`, and
    rotation_deg, align_scale, residual, start, and the transform (`evaluation.placement.COLUMNS`).
    An alignment that does not lower CD-avg is not accepted: then
    both sets are equal and start is "none". Volume IoU is NaN where the ground truth is not watertight.
    Raises `MeshError` if a mesh has no extent.
    """
    return score_prepared(prediction, prepare_truth(truth, protocol, name), protocol, name=name)


def score_prepared(prediction: Triangles, truth: Truth, protocol: Protocol, *, name: str) -> dict[str, float | str]:
    """`score`, with a ground truth that was made ready before."""
    vertices = placement.normalised(prediction.vertices, truth.mesh.vertices, protocol)
    rng = numpy_rng("evaluation", protocol.name, name, "prediction")
    cloud = surface.sample(vertices, prediction.faces, protocol.points, rng)

    def measure(transform: Transform) -> dict[str, float]:
        row = metrics.surface_metrics(metrics.nearest(cloud, truth.cloud, transform), protocol.fscore)
        moved = transform.apply(vertices)
        for n in protocol.viou:
            row[f"viou_{n}"] = float("nan")
            if n in truth.grids:
                grid = occupancy.occupancy(moved, prediction.faces, n, watertight=prediction.watertight)
                row[f"viou_{n}"] = occupancy.volume_iou(grid, truth.grids[n])
        return row

    before = after = measure(Transform.identity())
    transform, start, residual = Transform.identity(), "none", float("nan")
    found = align(cloud, truth.cloud, protocol.align)
    if found is not None:
        moved = measure(found.transform)
        if moved["cd_avg"] < before["cd_avg"]:
            after, transform, start, residual = moved, found.transform, found.start, found.residual
    alignment = {
        "rotation_deg": transform.degrees,
        "align_scale": transform.scale,
        "residual": residual,
        **placement.columns(transform),
        "start": start,
    }
    return after | {key + BEFORE: value for key, value in before.items()} | alignment


def failed(protocol: Protocol, *, watertight: bool) -> dict[str, float | str]:
    """What a failed prediction scores: the worst of every metric, before and after, by the policy of the protocol.

    watertight: of the ground truth; without it volume IoU is undefined for everyone.
    """
    policy = protocol.failure
    viou = policy.viou if watertight else float("nan")
    by_kind = {"cd": policy.cd_avg, "fscore": policy.fscore, "nc": policy.nc, "viou": viou}
    worst = {name: by_kind[name.split("_")[0]] for name in protocol.metrics}
    worst |= {"cd_sum": 2 * policy.cd_avg, "cd_sq": 2 * policy.cd_avg**2}
    return worst | {key + BEFORE: value for key, value in worst.items()} | no_alignment()


def no_alignment() -> dict[str, float | str]:
    """The alignment columns of a row that has no numbers of its own."""
    numbers = ("rotation_deg", "align_scale", "residual", *placement.COLUMNS)
    return dict.fromkeys(numbers, float("nan")) | {"start": "none"}
