"""Meshes from latents: coarse to fine against the dense grid, in queries, seconds, and the mesh that comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import faithful
from benchmarks.finished import NOT_RUN, finished
from benchmarks.growth import Curve
from benchmarks.measure import Spread, interleaved, ratios, spread
from benchmarks.networks import cast, params_of, randomised, wait_of
from benchmarks.options import Options
from benchmarks.plain import hierarchical
from benchmarks.result import Equality, Outcome, Row, Target
from benchmarks.shapes import STEEP, Shape, shapes
from core.randomness import numpy_rng
from methods.layers.extraction import Field, evaluate, nodes, surface
from methods.mar3d.decoding import field_of
from methods.mar3d.pyramid_vae import build_vae
from reports.figures.thickness import thinnest

SUMMARY = "mesh extraction from latents: decoder queries and marching cubes"
TOLERANCE = 1e-4
QUERIES, SECONDS = {256: 10.0, 512: 40.0}, {256: 6.0, 512: 20.0}
"""Targets by cells."""
FEW = ("sheet, 0.02 thick", "tilted rod, 0.02 thick")
THINNEST = 5
"""So many objects with the thinnest walls are compared at 256 cells."""
BANDS = "Other bands and first grids: the first row of this path."
DENSE_SHARE = {128: 1, 256: 16, 512: 128}
"""Only every so many-th chunk of the dense grid is timed, and its seconds are multiplied: all chunks are alike."""


@dataclass
class Counted:
    """A field that counts the points it is asked for."""

    field: Field
    points: int = 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.points += len(points)
        return self.field(points)


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    params = params_of("mar3d", options)
    settings = settings_of(params)
    resolutions = (64,) if options.quick else (128, 256, 512)
    rows = [row for cells in resolutions for row in agreement(cells, settings)]
    for cells in resolutions:
        rows += timed(params, cells, settings, options)
    rows += _real(settings, options)
    return Outcome("extraction", tuple(rows), growth(options), (
        f"Coarse to fine begins at or above {settings['coarsest']} cells and refines where |logit| < {settings['band']}"
        " or the sign changes.",
        "Seconds are those of a network of this scale whose answers are replaced by a closed form's: what is asked, and"
        " the mesh, are those of the shape, the cost is the network's.",
        "The certificate of benchmarks/faithful.py proves that no component can be lost, from how much the field"
        " changes a unit: known of a closed form, of a decoder measured on the dense grid. Where it does not hold, a"
        " row says which band would give it, and what was lost was found by comparing.",
    ))  # fmt: skip


def settings_of(params: Any) -> dict[str, Any]:
    """`coarsest` and `band`, as the method has them."""
    return {key: params["extraction"][key] for key in ("coarsest", "band")}


# ---------------------------------------------------------------- the same mesh?


@dataclass
class Found:
    """What one way of extracting gave on all shapes, against the dense grid."""

    fewer: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    gained: list[str] = field(default_factory=list)
    farthest: float = 0.0

    def add(self, shape: Shape, asked: int, mesh: Any, dense: tuple[int, Any]) -> None:
        """One shape's mesh and number of queries; dense: number of nodes, mesh."""
        apart = faithful.difference(mesh, dense[1], TOLERANCE)
        self.fewer.append(dense[0] / asked)
        self.lost += [shape.name] * apart.lost
        self.gained += [shape.name] * apart.gained
        self.farthest = max(self.farthest, apart.farthest)

    @property
    def equality(self) -> Equality:
        """Of the meshes."""
        error = float("inf") if self.lost or self.gained else self.farthest
        return Equality("the dense mesh: farthest vertex, infinite where a component differs", error, TOLERANCE)

    def __str__(self) -> str:
        lost, gained = self.lost, self.gained
        return f"components lost: {len(lost)}{_names(lost)}, gained: {len(gained)}{_names(gained)}"


def agreement(cells: int, settings: dict[str, Any]) -> list[Row]:
    """On all closed forms: queries, lost components, farthest vertex, certificate; ours and the peer as described."""
    chosen = shapes()
    if cells > 256:  # the dense field alone is 0.5 GB, and takes its time
        chosen = tuple(shape for shape in chosen if shape.name in FEW)
    ours, theirs, without = Found(), Found(), 0
    band = settings["band"]
    for shape in chosen:
        values = dense_values(shape.field, cells)
        dense = values.size, surface(values)
        counted = Counted(shape.field)
        mesh = surface(evaluate(counted, cells, **settings))
        ours.add(shape, counted.points, mesh, dense)
        counted = Counted(shape.field)
        mesh = hierarchical.surface(hierarchical.evaluate(counted, cells, band=band))
        theirs.add(shape, counted.points, mesh, dense)
        without += not faithful.certified(STEEP, cells, settings["coarsest"], band)
    needed = faithful.band_needed(STEEP, cells, settings["coarsest"])
    certificate = (
        f"certified: {len(chosen) - without} of {len(chosen)} shapes; a band of {needed:.1f} would certify all"
    )
    targets = (Target("queries", QUERIES[cells], spread(ours.fewer).median),) if cells in QUERIES else ()
    what = f"{cells + 1}^3, {len(chosen)} closed forms, fewer queries"
    described = Row(
        what, "x", spread(ours.fewer), "Hunyuan3D-2's hierarchical decoder, as described", spread(theirs.fewer),
        ratio=ratios(ours.fewer, theirs.fewer), limit=f"the peer's {theirs}; its farthest vertex {theirs.farthest:.1e}",
    )  # fmt: skip
    tried = tried_bands(cells, settings, chosen[-3:]) if cells <= 128 else ""
    own = Row(
        what, "x", spread(ours.fewer), "dense grid", equality=ours.equality, limit=f"{ours}; {certificate}",
        targets=targets, tried=tried,
    )  # fmt: skip
    return [own, described]


def _names(names: list[str]) -> str:
    return f" ({', '.join(sorted(set(names)))})" if names else ""


def tried_bands(cells: int, settings: dict[str, Any], thin: tuple[Shape, ...]) -> str:
    """Other bands and first grids on a few shapes: what they cost and what they lose."""
    found = []
    dense = {shape.name: surface(dense_values(shape.field, cells)) for shape in thin}
    for coarsest, band in ((settings["coarsest"], 1.0), (settings["coarsest"], 6.0), (2 * settings["coarsest"], 3.0)):
        fewer, lost = [], 0
        for shape in thin:
            field = Counted(shape.field)
            mesh = surface(evaluate(field, cells, coarsest=coarsest, band=band))
            fewer.append((cells + 1) ** 3 / field.points)
            lost += faithful.difference(mesh, dense[shape.name], TOLERANCE).lost
        found.append(f"band {band:g} from {coarsest} cells: {spread(fewer).median:.1f}x, {lost} lost")
    return f"On the last {len(thin)} shapes: {'; '.join(found)}."


def layers(cells: int, thickness: int = 8) -> Iterator[np.ndarray]:
    """The nodes of a dense grid in slabs, (n, 3) float32 each, in the order of its flat array."""
    side = np.arange(cells + 1)
    for first in range(0, cells + 1, thickness):
        index = np.stack(np.meshgrid(side[first : first + thickness], side, side, indexing="ij"), -1).reshape(-1, 3)
        yield nodes(index, cells)


def dense_values(field: Field, cells: int) -> np.ndarray:
    """The field at every node, (cells + 1,)^3 float32."""
    return np.concatenate([field(points) for points in layers(cells)]).reshape((cells + 1,) * 3)


# ---------------------------------------------------------------- how fast?


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


def timed(params: Any, cells: int, settings: dict[str, Any], options: Options) -> list[Row]:
    """Whole extractions of one shape, marching cubes included; the dense grid by a share of its chunks."""
    shape = next(shape for shape in shapes() if shape.name == "table on legs of 0.024")
    field, every = network_field(params, shape, options), DENSE_SHARE.get(cells, 1)
    slabs = list(layers(cells, 1))[::every] if every > 1 else list(layers(cells, 1))
    factor = (cells + 1) / len(slabs)
    values = evaluate(shape.field, cells, **settings)
    calls: dict[str, Callable[[], Any]] = {
        "ours": lambda: evaluate(field, cells, **settings),
        "dense": lambda: [field(points) for points in slabs],
        "cubes": lambda: surface(values),
    }
    if cells <= 256:
        calls["described"] = lambda: hierarchical.evaluate(field, cells, band=settings["band"])
    rounds = 3 if cells > 256 else 5
    taken = interleaved(calls, rounds=rounds, seconds=30, warm_up=0 if cells > 256 else 1, wait=wait_of(options.device))
    ours = [a + b for a, b in zip(taken["ours"], taken["cubes"], strict=True)]
    dense = [factor * a + b for a, b in zip(taken["dense"], taken["cubes"], strict=True)]
    whole = ratios(dense, ours)
    fields = ratios(taken["dense"], taken["ours"], factor)
    counted = Counted(shape.field)
    evaluate(counted, cells, **settings)
    fewer = (cells + 1) ** 3 / counted.points
    cubes = spread(taken["cubes"]).median / spread(ours).median
    what = f"{cells + 1}^3, {shape.name}, whole extraction"
    rows = [
        Row(
            what,
            "s",
            spread(ours),
            "dense grid" + (f" (1 of {every} slabs timed, scaled)" if every > 1 else ""),
            spread(dense),
            ratio=whole,
            limit=f"{fewer:.1f}x fewer queries bound the gain; without marching cubes {fields.median:.1f}x;"
            f" marching cubes is {cubes:.0%} of ours",
            targets=(Target("ratio", SECONDS[cells], whole.median),) if cells in SECONDS else (),
            tried="A band that halves with the spacing, in place of a constant one: 47.9 instead of 21.7 times fewer"
            " queries at 257^3 (docs/log.md). Marching cubes is the same on both sides.",
        )
    ]
    if "described" in taken:
        theirs = [a + b for a, b in zip(taken["described"], taken["cubes"], strict=True)]
        described = "Hunyuan3D-2's hierarchical decoder, as described"
        rows.append(Row(what, "s", spread(ours), described, spread(theirs), ratio=ratios(theirs, ours)))
    return rows


def _real(settings: dict[str, Any], options: Options) -> list[Row]:
    """The decoder of a finished run on objects that it was not taught, if `--finished` names one.

    At 128 cells up to a hundred of them; at 256, where a dense grid takes the better part of a minute, the thinnest.
    """
    what = "{cells}^3, a fitted decoder (float32) on prepared objects, fewer queries"
    if options.finished is None:
        return [Row(what.format(cells=129), "x", None, "dense grid", peer_status=NOT_RUN)]
    from data.store import Split
    from methods.mar3d.latents import load_vae

    made = finished(options.finished)
    vae, _ = load_vae(made.stages["vae"], torch.device(options.device))
    splits = [Split(made.prepared, name) for name in ("test", "val")]
    unseen = [split.sample(i, split.upright_views[0]) for split in splits for i in range(len(split))]
    by_wall = sorted(unseen[: 2 if options.quick else 100], key=wall)
    runs = [(32, by_wall)] if options.quick else [(128, by_wall), (256, by_wall[:THINNEST])]
    return [_faithful(vae, chosen, cells, what.format(cells=cells + 1), settings, options) for cells, chosen in runs]


def wall(sample: Any) -> float:
    """The thinnest wall of a prepared object in its view frame; infinite where it has no parallel walls."""
    place = thinnest(*sample.mesh(), rng=numpy_rng("thinnest", sample.object))
    return place.thickness if place else float("inf")


@torch.no_grad()
def _faithful(
    vae: Any, samples: list[Any], cells: int, what: str, settings: dict[str, Any], options: Options
) -> Row:  # fmt: skip
    fewer, farthest, lost, without, steep = [], [], [], 0, []
    for sample in samples:
        points, normals = (torch.from_numpy(a)[None].to(options.device) for a in sample.surface())
        field = Counted(field_of(vae, vae.decode(vae.encode(points, normals, "hr").mean), "fp32"))
        values = evaluate(field, cells, **settings)
        asked, dense = field.points, dense_values(field, cells)
        apart = faithful.difference(surface(values), surface(dense), TOLERANCE)
        fewer.append(dense.size / asked)
        farthest.append(apart.farthest)
        lost.append(apart.lost + apart.gained)
        steep.append(faithful.steepest(dense))
        without += not faithful.certified(steep[-1], cells, settings["coarsest"], settings["band"])
    worse = sum(distance > TOLERANCE for distance in farthest)
    wanted = QUERIES.get(cells)
    return Row(
        what,
        "x",
        spread(fewer),
        "dense grid",
        equality=Equality(
            "the dense mesh: farthest vertex, infinite where a component differs",
            float("inf") if any(lost) else max(farthest),
            TOLERANCE,
        ),
        limit=f"{len(samples)} objects, the thinnest wall {wall(samples[0]):.4f}: {sum(lost)} components lost or"
        f" gained, {worse} meshes differ, {len(samples) - without} certified; logits change by up to"
        f" {max(steep):.0f} a unit",
        targets=(Target("components lost or gained", 0, float(sum(lost)), "at most"),)
        + ((Target("queries", wanted, spread(fewer).median),) if wanted else ()),
        tried=BANDS,
    )


# ---------------------------------------------------------------- how does it grow?


def growth(options: Options) -> tuple[Curve, ...]:
    """Queries, and seconds without marching cubes, against the resolution."""
    sizes = (32, 48, 64, 96, 128) if options.quick else (64, 96, 128, 192, 256)
    shape = shapes()[0]
    params = params_of("mar3d", options)
    settings = settings_of(params)
    if options.quick:
        settings["coarsest"] = 16
    asked = []
    for cells in sizes:
        counted = Counted(shape.field)
        evaluate(counted, cells, **settings)
        asked.append(exact(counted.points))
    field = network_field(params, shape, options)
    calls = {cells: partial(evaluate, field, cells, **settings) for cells in sizes}
    taken = interleaved(calls, rounds=3, seconds=20, warm_up=0, wait=wait_of(options.device))
    seconds = tuple(spread(taken[cells]) for cells in sizes)
    dense = tuple(exact((cells + 1) ** 3) for cells in sizes)
    why, side = "nodes near a surface", "cells a side"
    return (
        Curve("coarse to fine, seconds", side, "s", sizes, seconds, 2.0, why),
        Curve("coarse to fine, queries", side, "queries", sizes, tuple(asked), 2.0, why),
        Curve("dense, queries", side, "queries", sizes, dense, None),
    )


def exact(count: int) -> Spread:
    """A count, which does not vary."""
    return Spread(float(count), float(count), float(count), 1)
