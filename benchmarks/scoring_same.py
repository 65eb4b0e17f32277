"""Whether scores are those of brute force in float64: whole pairs with their alignment, and the metrics alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.measure import interleaved, ratios, spread
from benchmarks.options import Options
from benchmarks.plain import alignment, brute_force, open3d_icp
from benchmarks.result import Equality, Row
from core.randomness import numpy_rng
from data.sources.procedural import make
from evaluation import align, metrics, neighbours, protocol, surface
from evaluation import score as scoring
from evaluation.backends import index
from evaluation.load import Triangles, clean
from evaluation.metrics import Transform

TOLERANCE = 1e-6
FAMILIES = ("chair", "mug", "table", "truck")
SCIPYS = "SciPy's trees at their best, leaves of 128, not balanced, not compact; Open3D's ICP"
SCIPY = {"balanced_tree": False, "compact_nodes": False, "leafsize": 128}
"""Of SciPy's tree. Many samples of flat faces share a coordinate: its own settings, which split at the median down to
leaves of 16, take up to three times as long over them (docs/log.md, `SciPy's tree at its best, and manifolds`)."""


def pair(family: str) -> tuple[Triangles, Triangles]:
    """A prediction and a ground truth."""
    first, second = (make(f"test-{family}-{number:05d}") for number in (0, 26))
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    turned = first.vertices @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    return clean(turned, first.faces), clean(second.vertices, second.faces)


def clouds(points: int) -> tuple[surface.Cloud, surface.Cloud]:
    """Samples of a prediction and a ground truth, normalised."""
    result = []
    for mesh, name in zip(pair("chair"), ("prediction", "truth"), strict=True):
        vertices = surface.normalise(mesh.vertices, *surface.box(mesh.vertices))
        result.append(surface.sample(vertices, mesh.faces, points, numpy_rng("benchmarks", "scoring", name)))
    return result[0], result[1]


def small(recipe: protocol.Protocol) -> protocol.Protocol:
    """The protocol on so few points that brute force can score a pair."""
    return replace(recipe, points=600, align=replace(recipe.align, subset=200, icp_points=400))


@contextmanager
def by_brute_force() -> Iterator[None]:
    """Within the block all neighbours are found by all distances in float64, those of ICP too."""
    with ExitStack() as stack:
        for owner, name, plain in (
            (neighbours, "Tree", brute_force.Index),
            (align, "Tree", brute_force.Index),
            (align, "icp", alignment.icp),
        ):
            stack.enter_context(patch.object(owner, name, plain))
        yield


@contextmanager
def by_scipy() -> Iterator[None]:
    """Within the block trees are SciPy's and ICP is Open3D's, each at its best."""
    tree = partial(cKDTree, **SCIPY)
    with ExitStack() as stack:
        for owner, name, other in (
            (neighbours, "Tree", tree),
            (align, "Tree", tree),
            (align, "icp", open3d_icp.icp),
        ):
            stack.enter_context(patch.object(owner, name, other))
        yield


def score_error(family: str, recipe: protocol.Protocol) -> float:
    """Largest difference of any column of a small pair from brute force; infinite where another start was kept."""
    ours = scoring.score(*pair(family), recipe, name=family)
    with by_brute_force():
        plain = scoring.score(*pair(family), recipe, name=family)
    return columns_error(ours, plain)


def columns_error(ours: Mapping[str, Any], plain: Mapping[str, Any]) -> float:
    """Largest difference of any column of two scores of a pair; infinite where another start was kept."""
    if ours["start"] != plain["start"]:
        return float("inf")
    return max(
        float(abs(ours[key] - plain[key])) for key in ours if key != "start" and not both_nan(ours[key], plain[key])
    )


def both_nan(a: float, b: float) -> bool:
    """Whether both are no number, as where nothing was aligned."""
    return a != a and b != b


def alike(options: Options) -> Row:
    """Whole scores, alignment included, beside brute force."""
    recipe, families = small(protocol.load("v1")), FAMILIES[: 1 if options.quick else None]

    def plain() -> None:
        with by_brute_force():
            scoring.score(*pair(families[0]), recipe, name=families[0])

    calls = {"plain": plain, "ours": lambda: scoring.score(*pair(families[0]), recipe, name=families[0])}
    taken = interleaved(calls, rounds=3, seconds=10, warm_up=0)
    error = max(score_error(family, recipe) for family in families)
    return Row(
        f"a pair of {recipe.points} points, scored wholly", "s", spread(taken["ours"]),
        "plain: all distances in float64, in ICP too", spread(taken["plain"]),
        ratio=ratios(taken["plain"], taken["ours"]),
        equality=Equality(f"every column of {len(families)} pairs", error, TOLERANCE),
    )  # fmt: skip


def metrics_error(ours: surface.Cloud, truth: surface.Cloud, subset: int, thresholds: tuple[float, ...]) -> float:
    """Largest difference of any metric from brute force, when both use the first `subset` points of each cloud."""
    a, b = (metrics_cloud(cloud, subset) for cloud in (ours, truth))
    found = metrics.surface_metrics(metrics.nearest(a, b, Transform.identity()), thresholds)
    d_p, at_b = brute_force.distances(a.points, b.points)
    d_g, at_a = brute_force.distances(b.points, a.points)
    cosines = (a.normals * b.normals[at_b]).sum(1), (b.normals * a.normals[at_a]).sum(1)
    expected = metrics.surface_metrics(metrics.Nearest(d_p, d_g, *cosines), thresholds)
    return max(abs(found[name] - expected[name]) for name in expected)


def metrics_cloud(cloud: surface.Cloud, subset: int) -> surface.Cloud:
    """The first `subset` points of a cloud, in their order, with a tree of their own."""
    kept = cloud.draw < subset
    points = np.ascontiguousarray(cloud.points[kept])
    return surface.Cloud(points, cloud.normals[kept], cloud.draw[kept], index(points))


def surface_alike(ours: surface.Cloud, truth: surface.Cloud, options: Options) -> Row:
    subset = 500 if options.quick else 4000
    a, b = (metrics_cloud(cloud, subset).points for cloud in (ours, truth))
    calls = {
        "plain": lambda: (brute_force.distances(a, b), brute_force.distances(b, a)),
        "ours": lambda: (index(b).query(a), index(a).query(b)),
    }
    taken = interleaved(calls, rounds=5, seconds=8)
    error = metrics_error(ours, truth, subset, protocol.load("v1").fscore)
    return Row(
        f"nearest neighbours, {subset} points", "s", spread(taken["ours"]), "plain: all distances in float64",
        spread(taken["plain"]), ratio=ratios(taken["plain"], taken["ours"]),
        equality=Equality("every surface metric", error, TOLERANCE),
    )  # fmt: skip
