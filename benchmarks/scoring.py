"""Scoring a pair under protocol v1: seconds, parts, equality with brute force in float64, peers for the neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from benchmarks import peers
from benchmarks.growth import Curve
from benchmarks.measure import interleaved, ratios, spread, stages
from benchmarks.options import Options
from benchmarks.plain import brute_force
from benchmarks.result import Equality, Outcome, Row, Target
from core.randomness import numpy_rng
from data.sources.procedural import make
from evaluation import backends, metrics, occupancy, protocol, surface
from evaluation import score as scoring
from evaluation.backends import index
from evaluation.load import Triangles, clean
from evaluation.metrics import Transform

SUMMARY = "scoring a pair: 100,000 points, 24 starts, ICP, volume IoU twice"
TOLERANCE = 1e-6
FAMILIES = ("chair", "mug", "table", "truck")
TRIED = (
    "The pairs are different objects, so ICP runs all of its 3 x 3 x 20 iterations. An ICP that searches only where the"
    " match may have changed is the same to 1e-14 and 5 to 36 % faster there, but slower on real meshes against their"
    " truth; SciPy's tree is slower (docs/log.md). Fewer starts or iterations would be another protocol."
)
PARTS = {"sample": "samples", "align": "alignment", "nearest": "neighbours", "occupancy": "occupied cells"}


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    recipe = protocol.load("v1")
    if options.quick:
        recipe = replace(recipe, points=2000)
    rows = [_pairs(recipe, options), *_neighbours(recipe.points, options)]
    return Outcome("scoring", tuple(rows), growth(options), (
        "A pair is a procedural object and another of its family, turned by 30 degrees: both meshes are at hand, files"
        " are not read. Seconds include the ground truth's own samples, which a run makes once an object and view.",
    ))  # fmt: skip


def pair(family: str) -> tuple[Triangles, Triangles]:
    """A prediction and a ground truth."""
    first, second = (make(f"test-{family}-{number:05d}") for number in (0, 26))
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    turned = first.vertices @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
    return clean(turned, first.faces), clean(second.vertices, second.faces)


def _pairs(recipe: Any, options: Options) -> Row:
    pairs = {family: pair(family) for family in FAMILIES[: 1 if options.quick else None]}
    calls = {f: (lambda p=p, f=f: scoring.score(*p, recipe, name=f)) for f, p in pairs.items()}
    taken = interleaved(calls, rounds=3 if options.quick else 5, seconds=40)
    seconds = [sum(round_) / len(round_) for round_ in zip(*taken.values(), strict=True)]
    functions = ((surface, "sample"), (scoring, "align"), (metrics, "nearest"), (occupancy, "occupancy"))
    with stages(*functions) as spent:
        for call in calls.values():
            call()
    total = len(pairs) * spread(seconds).median
    parts = ", ".join(f"{what} {spent[name] / total:.0%}" for name, what in PARTS.items())
    return Row(
        f"a pair, mean of {len(pairs)} families",
        "s",
        spread(seconds),
        limit=f"by part: {parts}",
        targets=(Target("seconds a pair and core", 1.0, spread(seconds).median, "at most", "s"),),
        tried=TRIED,
    )


def clouds(points: int) -> tuple[surface.Cloud, surface.Cloud]:
    """Samples of a prediction and a ground truth, normalised."""
    result = []
    for mesh, name in zip(pair("chair"), ("prediction", "truth"), strict=True):
        vertices = surface.normalise(mesh.vertices, *surface.box(mesh.vertices))
        result.append(surface.sample(vertices, mesh.faces, points, numpy_rng("benchmarks", "scoring", name)))
    return result[0], result[1]


def _neighbours(points: int, options: Options) -> list[Row]:
    """Nearest neighbours of all points in both directions: ours, SciPy, and those of other projects."""
    ours, truth = clouds(points)
    a, b = ours.points, truth.points

    def both(make_index: Any) -> Any:
        return lambda: (make_index(b).query(a), make_index(a).query(b))

    candidates = {"scipy": both(cKDTree)}
    why_not: dict[str, str] = {}
    for name in ("pytorch3d", "kaolin"):
        found = backends.look(name)
        if found.usable:
            candidates[name] = _torch_neighbours(name, a, b)
        else:
            why_not[name] = found.why_not or peers.NOT_INSTALLED
    calls = {"ours": both(index)} | candidates
    taken = interleaved(calls, rounds=5, seconds=60, warm_up=0)
    limit = f"{points} against {points} points, both ways, trees built"
    rows = []
    for name in ("scipy", "pytorch3d", "kaolin"):
        if name in why_not:
            rows.append(Row("nearest neighbours", "s", None, name, peer_status=why_not[name]))
            continue
        (theirs, _), (back, _) = candidates[name]()
        (found, _), (found_back, _) = calls["ours"]()
        error = max(np.abs(theirs - found).max(), np.abs(back - found_back).max())
        # Other projects compute distances in float32.
        equality = Equality("distances", float(error), TOLERANCE if name == "scipy" else 1e-3)
        rows.append(
            Row("nearest neighbours", "s", spread(taken["ours"]), name, spread(taken[name]),
                ratio=ratios(taken[name], taken["ours"]), equality=equality, limit=limit)
        )  # fmt: skip
    rows.append(_brute_force(ours, truth, options))
    return rows


def _torch_neighbours(name: str, a: np.ndarray, b: np.ndarray) -> Any:
    """pytorch3d's knn_points or kaolin's sided_distance, of float32 tensors on the CPU: distances and indices."""
    import torch

    x, y = (torch.from_numpy(p).float()[None] for p in (a, b))

    def one_way(p: Any, q: Any) -> tuple[np.ndarray, np.ndarray]:
        if name == "pytorch3d":
            from pytorch3d.ops import knn_points

            squares, where, _ = knn_points(p, q, K=1)
            return squares[0, :, 0].sqrt().numpy(), where[0, :, 0].numpy()
        from kaolin.metrics.pointcloud import sided_distance

        squares, where = sided_distance(p, q)
        return squares[0].sqrt().numpy(), where[0].numpy()

    return lambda: (one_way(x, y), one_way(y, x))


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


def _brute_force(ours: surface.Cloud, truth: surface.Cloud, options: Options) -> Row:
    subset = 500 if options.quick else 4000
    a, b = (metrics_cloud(cloud, subset).points for cloud in (ours, truth))
    calls = {
        "plain": lambda: (brute_force.distances(a, b), brute_force.distances(b, a)),
        "ours": lambda: (index(b).query(a), index(a).query(b)),
    }
    taken = interleaved(calls, rounds=5, seconds=15)
    error = metrics_error(ours, truth, subset, protocol.load("v1").fscore)
    return Row(
        f"nearest neighbours, {subset} points", "s", spread(taken["ours"]), "plain: all distances in float64",
        spread(taken["plain"]), ratio=ratios(taken["plain"], taken["ours"]),
        equality=Equality("every surface metric", error, TOLERANCE),
        limit="the plain way grows with the square of the points",
    )  # fmt: skip


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds of neighbours in both directions, trees built, against the number of points."""
    sizes = (250, 500, 1000, 2000, 4000) if options.quick else (6250, 12500, 25000, 50000, 100000)
    calls = {}
    for points in sizes:
        ours, truth = clouds(points)
        calls[points] = lambda a=ours.points, b=truth.points: (index(b).query(a), index(a).query(b))
    taken = interleaved(calls, rounds=5, seconds=10)
    why = "n log n, which is 1.1 over these sizes"
    costs = tuple(spread(taken[n]) for n in sizes)
    return (Curve("neighbours both ways", "points", "s", sizes, costs, 1.1, why),)
