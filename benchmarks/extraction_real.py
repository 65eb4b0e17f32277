"""The decoder of a finished run on objects that it was not taught: is its mesh that of the dense grid?"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import faithful
from benchmarks.dense import Counted, dense_values
from benchmarks.extraction_same import Found
from benchmarks.finished import CEILING, NOT_RUN, finished
from benchmarks.measure import spread
from benchmarks.options import Options
from benchmarks.result import Row
from core.randomness import numpy_rng
from methods.layers.extraction import evaluate, surface
from methods.mar3d.decoding import field_of
from reports.figures.thickness import thinnest

WHAT, GROUP = "a fitted decoder (float32) on prepared objects", "a fitted decoder"
OBJECTS, THINNEST, EVERY = 100, 5, 10
"""How many objects are compared at 128 cells; and, those with the thinnest walls, at 256, where a dense grid takes the
better part of a minute each. At 512 cells it would take minutes: of one object in ten the queries are counted."""
TRIED = "docs/log.md, `extraction: a band that shrinks with the spacing`; other bands: note below."


def real(settings: dict[str, Any], options: Options) -> list[Row]:
    """Rows of up to a hundred objects, thinnest first; one row that says so where no run is named."""
    if options.finished is None:
        return [Row(WHAT, "queries", None, "dense grid", peer_status=NOT_RUN, group=GROUP)]
    from data.store import Split
    from methods.mar3d.latents import load_vae

    made = finished(options.finished, CEILING)
    vae, _ = load_vae(made.stages["vae"], torch.device(options.device))
    splits = [Split(made.prepared, name) for name in ("test", "val")]
    unseen = [split.sample(i, split.upright_views[0]) for split in splits for i in range(len(split))]
    by_wall = sorted(unseen[: 2 if options.quick else OBJECTS], key=wall)
    runs = [(32, by_wall)] if options.quick else [(128, by_wall), (256, by_wall[:THINNEST])]
    rows = [_compared(vae, chosen, cells, settings, options) for cells, chosen in runs]
    return rows if options.quick else [*rows, _counted(vae, by_wall[::EVERY], 512, settings, options)]


def wall(sample: Any) -> float:
    """The thinnest wall of a prepared object in its view frame; infinite where it has no parallel walls."""
    place = thinnest(*sample.mesh(), rng=numpy_rng("thinnest", sample.object))
    return place.thickness if place else float("inf")


def _field(vae: Any, sample: Any, options: Options) -> Counted:
    """What the decoder makes of an object's own latents, in float32."""
    points, normals = (torch.from_numpy(a)[None].to(options.device) for a in sample.surface())
    return Counted(field_of(vae, vae.decode(vae.encode(points, normals, "hr").mean), "fp32"))


@torch.no_grad()
def _counted(vae: Any, samples: list[Any], cells: int, settings: dict[str, Any], options: Options) -> Row:
    """Queries alone, beside the nodes of the dense grid."""
    found, nodes = Found(), (cells + 1) ** 3
    for sample in samples:
        field = _field(vae, sample, options)
        evaluate(field, cells, **settings)
        found.count(field.points, nodes)
    return Row(
        f"{cells + 1}^3, {WHAT}", "queries", spread(found.queries), "dense grid", spread([float(nodes)]),
        ratio=spread(found.fewer), not_compared="a dense grid of this size takes minutes an object",
        targets=found.fewest(cells), limit=f"{len(samples)} objects, from the thinnest wall to none", tried=TRIED,
        group=GROUP,
    )  # fmt: skip


@torch.no_grad()
def _compared(vae: Any, samples: list[Any], cells: int, settings: dict[str, Any], options: Options) -> Row:
    found, changes, nodes = Found(), [], (cells + 1) ** 3
    for sample in samples:
        field = _field(vae, sample, options)
        mesh = surface(evaluate(field, cells, **settings))
        asked, dense = field.points, dense_values(field, cells)
        found.add(sample.object, asked, nodes, mesh, surface(dense))
        changes.append(faithful.diagonal_change(dense))
    differ = sum(distance > found.equality.tolerance for distance in found.farthest)
    sure = sum(faithful.certified(change, cells, settings["coarsest"], settings["band"]) for change in changes)
    return Row(
        f"{cells + 1}^3, {WHAT}", "queries", spread(found.queries), "dense grid", spread([float(nodes)]),
        ratio=spread(found.fewer), equality=found.equality, targets=(found.target, *found.fewest(cells)),
        limit=f"{len(samples)} objects, the thinnest wall {wall(samples[0]):.4f}: {found}; {differ} meshes differ;"
        f" {sure} certified, the least certain would need a band of"
        f" {faithful.band_needed(max(changes), cells, settings['coarsest']):.0f}",
        tried=TRIED, group=GROUP,
    )  # fmt: skip
