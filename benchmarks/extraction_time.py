"""How long an extraction takes, marching cubes included, and how that grows with the resolution."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import faithful
from benchmarks.dense import Counted, dense_mesh, layers
from benchmarks.extraction_same import PEER, TOLERANCE
from benchmarks.growth import Curve
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import cast, params_of, randomised, wait_of
from benchmarks.options import Options
from benchmarks.plain import hierarchical
from benchmarks.result import Equality, Row, Target
from benchmarks.shapes import Shape, shape_of
from methods.layers.coarse_to_fine import Field, evaluate
from methods.layers.extraction import surface
from methods.mar3d.decoding import field_of
from methods.mar3d.pyramid_vae import build_vae

SECONDS = {256: 6.0, 512: 20.0}
"""By how much faster than the dense grid it should be, by cells."""
DESCRIBED = 256
"""Beyond, the decoder as described is compared by its queries alone: three rounds would take a minute more."""
DENSE_SHARE = {256: 32, 512: 128}
"""Only every so many-th layer of the dense grid is timed, and its seconds are multiplied: all layers are alike."""
TIMED, GROWN = ("table on legs of 0.024", "shell, 0.03 thick"), "ball"
"""Those that are timed have little surface and the most of all shapes: the second is the hardest for the target."""
TRIED = (
    "No more can be gained than queries are saved: what was tried there stands at the queries of this grid, above."
    " Beside the queries: nodes near the surface are kept as a list, whole grids are copied once a level, in pieces,"
    " marching cubes runs in the box of the surface (docs/log.md, `extraction grows its grids by taking`, `extraction"
    " halves edges`, `grids looked at in pieces`); the dense grid has the same one."
)
CUBIC = (
    "copying a grid to the next, looking for crossed edges and marching cubes pass over whole grids or the box of the"
    " surface, up to (N + 1)^3 nodes, and overtake the network as N grows; the queries, next line, keep to the theory"
    " (docs/log.md, `extraction grows its grids by taking`, `extraction halves edges`, `grids looked at in pieces`)"
)


@dataclass
class Clocked:
    """A field that adds up the seconds it takes."""

    field: Field
    seconds: float = 0.0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        values = self.field(points)
        self.seconds += time.perf_counter() - start
        return values


def network_field(params: Any, shape: Shape, options: Options) -> Field:
    """The closed form's values at the network's cost: its logits are computed, and replaced."""
    latent = params["latent"]
    vae = randomised(lambda: build_vae(params["vae"], latent), "vae", device=options.device).eval()
    latents = torch.randn(1, latent["tokens"]["hr"], latent["channels"], generator=torch.Generator().manual_seed(9))
    precision = params["sampling"]["precision"]
    with torch.no_grad(), cast(options, precision):
        of_network = field_of(vae, vae.decode(latents.to(options.device)), precision)

    def field(points: np.ndarray) -> np.ndarray:
        of_network(points)
        return shape.field(points)

    return field


def timed(cells: int, settings: dict[str, Any], options: Options) -> list[Row]:
    """Whole extractions of the shapes; up to DESCRIBED cells the first one beside the decoder as described too."""
    first, *others = (shape_of(name) for name in TIMED)
    rows = _timed(first, cells, settings, options, described=cells <= DESCRIBED)
    return [*rows, *(row for shape in others for row in _timed(shape, cells, settings, options, described=False))]


def _timed(shape: Shape, cells: int, settings: dict[str, Any], options: Options, *, described: bool) -> list[Row]:
    """Of one shape; the dense grid by a share of its layers, and marching cubes once for it."""
    field, every = network_field(params_of("mar3d", options), shape, options), DENSE_SHARE.get(cells, 1)
    clocked, asked, kept = Clocked(field), Counted(shape.field), {}
    slabs = list(layers(cells, every))
    values = evaluate(asked, cells, **settings)
    field(slabs[0])  # warms the network up; a whole round would take as long as the rounds that count

    def ours() -> None:
        kept["ours"] = surface(evaluate(clocked, cells, **settings))

    def as_described() -> None:
        kept["described"] = hierarchical.surface(hierarchical.evaluate(field, cells))

    calls: dict[str, Callable[[], Any]] = {
        "ours": ours,
        **({"described": as_described} if described else {}),
        "layers": lambda: [field(points) for points in slabs],
        "cubes": lambda: surface(values),
    }
    taken = interleaved(calls, rounds=5, seconds=15, warm_up=0, wait=wait_of(options.device))
    factor = (cells + 1) / len(slabs)
    dense = [factor * a + b for a, b in zip(taken["layers"], taken["cubes"], strict=True)]
    network = clocked.seconds / sum(taken["ours"])
    cubes = spread(taken["cubes"]).median / spread(taken["ours"]).median
    gain = ratios(dense, taken["ours"])
    what = f"{cells + 1}^3, {shape.name}, whole extraction"
    mesh, _ = dense_mesh(shape.name, cells)
    own = Row(
        what, "s", spread(taken["ours"]),
        "dense grid" + (f" ({len(slabs)} of {cells + 1} layers timed, scaled)" if every > 1 else ""), spread(dense),
        ratio=gain, equality=_same(kept["ours"], mesh, "the dense mesh"),
        limit=f"{(cells + 1) ** 3 / asked.points:.1f}x fewer queries bound the gain; of ours the network is"
        f" {network:.0%}, marching cubes {cubes:.0%}, the rest passes over whole grids",
        targets=(Target("ratio", SECONDS[cells], gain.median),) if cells in SECONDS else (), tried=TRIED,
    )  # fmt: skip
    if not described:
        return [own]
    return [own, Row(
        what, "s", spread(taken["ours"]), PEER, spread(taken["described"]),
        ratio=ratios(taken["described"], taken["ours"]), equality=_same(kept["described"], kept["ours"], "our mesh"),
    )]  # fmt: skip


def _same(mesh: Any, other: Any, name: str) -> Equality:
    apart = faithful.difference(mesh, other, TOLERANCE)
    error = float("inf") if apart.lost or apart.gained else apart.farthest
    return Equality(f"farthest vertex from {name}, infinite where a component differs", error, TOLERANCE)


def growth(settings: dict[str, Any], options: Options) -> tuple[Curve, ...]:
    """Seconds of a whole extraction, and queries, against the resolution; sizes of one first grid are a family."""
    sizes = (32, 48, 64, 96, 128) if options.quick else (64, 96, 128, 192, 256, 384, 512)
    families = tuple(float(faithful.coarsest_of(cells, settings["coarsest"])) for cells in sizes)
    shape = shape_of(GROWN)
    asked = []
    for cells in sizes:
        counted = Counted(shape.field)
        evaluate(counted, cells, **settings)
        asked.append(float(counted.points))
    field = network_field(params_of("mar3d", options), shape, options)

    def extract(cells: int) -> None:
        surface(evaluate(field, cells, **settings))

    extract(sizes[0])
    calls = {cells: partial(extract, cells) for cells in sizes}
    taken = interleaved(calls, rounds=3, seconds=20, warm_up=0, wait=wait_of(options.device))
    seconds = tuple(spread(taken[cells]) for cells in sizes)
    dense = tuple(spread([float((cells + 1) ** 3)]) for cells in sizes)
    why, side, queries = "nodes near a surface", "cells a side", tuple(spread([count]) for count in asked)
    return (
        Curve("whole extraction", side, "s", sizes, seconds, 2.0, why, families, CUBIC),
        Curve("coarse to fine", side, "queries", sizes, queries, 2.0, why, families),
        Curve("dense grid", side, "queries", sizes, dense, None, families=families),
    )
