"""Scoring a pair under protocol v1: seconds, parts, equality with brute force in float64, peers for the neighbours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from benchmarks import peers
from benchmarks.growth import Curve
from benchmarks.measure import interleaved, ratios, spread, stages
from benchmarks.options import Options
from benchmarks.plain import open3d_icp
from benchmarks.result import Equality, Outcome, Row, Target
from benchmarks.scoring_same import (
    FAMILIES,
    SCIPY,
    SCIPYS,
    TOLERANCE,
    alike,
    by_scipy,
    clouds,
    columns_error,
    pair,
    surface_alike,
)
from evaluation import backends, metrics, occupancy, protocol, surface
from evaluation import score as scoring
from evaluation.backends import index

SUMMARY = "scoring a pair: 100,000 points, 24 starts, ICP, volume IoU twice"
TRIED = (
    "Pairs of different objects make all iterations of ICP, whose searches are the largest part of a pair. Searching"
    " only where a match may have changed, other trees, leaves and orders of points: docs/log.md, `where scoring spends"
    " its time, and what did not make it faster`, `ICP by SciPy's trees`, `trees of pykdtree`. Fewer starts or"
    " iterations would be another protocol."
)
A_PAIR = "time of a pair and core"
PARTS = {"sample": "samples", "align": "alignment", "nearest": "neighbours", "occupancy": "occupied cells"}


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    recipe = protocol.load("v1")
    if options.quick:
        recipe = replace(recipe, points=2000)
    rows = [_pairs(recipe, options), alike(options), *_neighbours(recipe.points, options)]
    return Outcome("scoring", tuple(rows), growth(options), (
        "A pair is a procedural object and another of its family, turned by 30 degrees: both meshes are at hand, files"
        " are not read. Seconds include the ground truth's own samples, which a run makes once an object and view.",
        "Nearest neighbours are those of all points in both directions, trees built. Rows beside all distances in"
        " float64, whose cost grows with the square of the points, stand for the equality.",
    ))  # fmt: skip


def search_alone(recipe: protocol.Protocol) -> str:
    """What the nearest-neighbour queries of a pair take by themselves, in words: of the metrics and of ICP."""
    align = recipe.align
    (a, b), (few, of) = clouds(recipe.points), clouds(align.icp_points)
    calls: dict[Any, Callable[[], Any]] = {"metrics": partial(b.tree.query, a.points)}
    calls |= {d: partial(of.tree.query, few.points, within=d) for d in align.correspondence}
    taken = interleaved(calls, rounds=5, seconds=3)
    each = {what: spread(seconds).median for what, seconds in taken.items()}
    icp = align.keep * (align.iterations + 1) * sum(each[d] for d in align.correspondence)
    return (
        f"search alone, of two chairs: metrics {4 * each['metrics']:.2f} s, before and after, both ways; ICP, if it"
        f" makes all of its iterations, {icp:.2f} s"
    )


def _pairs(recipe: protocol.Protocol, options: Options) -> Row:
    pairs = {family: pair(family) for family in FAMILIES[: 1 if options.quick else None]}
    scored: dict[tuple[str, str], Any] = {}

    def score(who: str, family: str) -> None:
        with by_scipy() if who == "scipy" else nullcontext():
            scored[who, family] = scoring.score(*pairs[family], recipe, name=family)

    why_not = open3d_icp.why_not()  # imports it, too
    both = ("ours",) if why_not else ("ours", "scipy")
    calls = {f"{who} {f}": partial(score, who, f) for f in pairs for who in both}
    score("ours", FAMILIES[0])  # imports; a warm-up of all would take as long as a round
    taken = interleaved(calls, rounds=3 if options.quick else 5, seconds=30, warm_up=0)
    means = {
        who: [sum(round_) / len(round_) for round_ in zip(*(taken[f"{who} {f}"] for f in pairs), strict=True)]
        for who in both
    }
    seconds, beside = means["ours"], {"peer_status": why_not}
    if not why_not:
        error = max(columns_error(scored["ours", f], scored["scipy", f]) for f in pairs)
        beside = {
            "peer_cost": spread(means["scipy"]),
            "ratio": ratios(means["scipy"], seconds),
            "equality": Equality(f"every column of {len(pairs)} pairs", error, TOLERANCE),
        }
    functions = ((surface, "sample"), (scoring, "align"), (metrics, "nearest"), (occupancy, "occupancy"))
    with stages(*functions) as spent:
        for family in pairs:
            score("ours", family)
    total = len(pairs) * spread(seconds).median
    parts = ", ".join(f"{what} {spent[name] / total:.0%}" for name, what in PARTS.items())
    return Row(
        f"a pair, mean of {len(pairs)} families",
        "s",
        spread(seconds),
        SCIPYS,
        limit=f"by part: {parts}; {search_alone(recipe)}",
        targets=(Target(A_PAIR, 1.0, spread(seconds).median, "at most", "s"),),
        tried=TRIED,
        **beside,
    )


def _neighbours(points: int, options: Options) -> list[Row]:
    """Nearest neighbours of all points in both directions: ours, SciPy, and those of other projects."""
    ours, truth = clouds(points)
    a, b = ours.points, truth.points

    def both(make_index: Any) -> Any:
        return lambda: (make_index(b).query(a), make_index(a).query(b))

    candidates: dict[str, Callable[[], Any]] = {"scipy": both(partial(cKDTree, **SCIPY))}
    why_not: dict[str, str] = {}
    for name in ("pytorch3d", "kaolin"):
        found = backends.look(name)
        if found.usable:
            candidates[name] = _torch_neighbours(name, a, b)
            _torch_neighbours(name, a[:1000], b[:1000])()  # imports; a warm-up at full size would take a minute
        else:
            why_not[name] = found.why_not or peers.NOT_INSTALLED
    calls = {"ours": both(index)} | candidates
    both(index)()
    taken = interleaved(calls, rounds=5, seconds=30, warm_up=0)
    what, rows = f"nearest neighbours, {points:,} points", []
    for name in ("scipy", "pytorch3d", "kaolin"):
        if name in why_not:
            rows.append(Row(what, "s", None, name, peer_status=why_not[name]))
            continue
        (_, there), (_, back) = candidates[name]()
        (found, _), (found_back, _) = calls["ours"]()
        # In float64 from the coordinates, as ours: a peer that computes in float32 is asked which point is the nearest.
        theirs, theirs_back = (np.linalg.norm(p - q[at], axis=1) for p, q, at in ((a, b, there), (b, a, back)))
        error = max(np.abs(theirs - found).max(), np.abs(theirs_back - found_back).max())
        equality = Equality("distances to the points that are the nearest", float(error), TOLERANCE)
        rows.append(
            Row(what, "s", spread(taken["ours"]), name, spread(taken[name]),
                ratio=ratios(taken[name], taken["ours"]), equality=equality)
        )  # fmt: skip
    rows.append(surface_alike(ours, truth, options))
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
