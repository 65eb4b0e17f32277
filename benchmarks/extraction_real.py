"""The decoder of a finished run on objects that it was not taught: is its mesh that of the dense grid, at what cost?

Nothing is timed here, so other work may run beside it: queries are counted, and meshes compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import faithful
from benchmarks.dense import Counted, dense_values, needed
from benchmarks.extraction import settings_of
from benchmarks.extraction_same import Found
from benchmarks.finished import CEILING, NOT_RUN, finished
from benchmarks.growth import Curve
from benchmarks.measure import spread
from benchmarks.networks import cast, params_of
from benchmarks.options import Options
from benchmarks.result import Outcome, Row, Target
from core.randomness import numpy_rng
from methods.layers.coarse_to_fine import evaluate
from methods.layers.extraction import surface
from methods.mar3d.decoding import field_of
from methods.training.weights import lowered
from reports.figures.thickness import thinnest

SUMMARY = "mesh extraction by a fitted decoder, of objects that it was not taught"
GROUP = "a fitted decoder"
OBJECTS = {128: 100, 256: 12}
"""How many objects are compared at so many cells, those with the thinnest walls."""
COUNTED, EVERY = 512, 10
"""Cells at which the queries of one object in ten of the hundred are counted: a dense grid takes minutes an object."""
FieldOf = Callable[[Any], Counted]
"""The decoder's field of a prepared object's view."""
TRIED = (
    "Of what is asked beyond the ends of crossed edges most is where a soft decoder stays near 0 without crossing it."
    " A smaller `change`, or no search for thin parts, asks for less, and loses one to three specks of a node that the"
    " dense grid finds in the hundred objects at 129^3; docs/log.md, `extraction halves edges`."
)


def run(options: Options) -> Outcome:
    """All rows of the path."""
    return Outcome("extraction_real", tuple(real(settings_of(options), options)), (), (
        "Objects of the validation and test splits, those with the thinnest walls (reports/figures/thickness.py), each"
        " encoded from its own surface, in the precision of generation.",
        "A certificate (benchmarks/faithful.py) proves beforehand that no component can be lost, from how much the"
        " decoder changes along the edges of the dense grid. Where it does not hold, comparing has to find out.",
    ))  # fmt: skip


def growth(options: Options) -> tuple[Curve, ...]:
    """None of its own: `extraction` has them."""
    return ()


def real(settings: dict[str, Any], options: Options) -> list[Row]:
    """Rows of up to a hundred objects, thinnest first; one row that says so where no run is named."""
    if options.finished is None:
        target = Target("components lost or gained", 0.0, None, "at most")
        return [
            Row("a fitted decoder", "queries", None, "dense grid", peer_status=NOT_RUN, targets=(target,), group=GROUP)
        ]
    from data.store import Split
    from methods.mar3d.latents import load_vae

    made = finished(options.finished, CEILING)
    precision = params_of("mar3d", options)["sampling"]["precision"]
    vae = lowered(load_vae(made.stages["vae"], torch.device(options.device))[0], precision)
    splits = [Split(made.prepared, name) for name in ("test", "val")]
    unseen = [split.sample(i, split.upright_views[0]) for split in splits for i in range(len(split))]
    by_wall = sorted(unseen, key=wall)
    sizes, counted, every = ({32: 2}, 32, 1) if options.quick else (OBJECTS, COUNTED, EVERY)
    of_run = f"a decoder fitted to {options.finished.resolve().parent.name} at {made.scale}"

    def field(sample: Any) -> Counted:
        return field_of_object(vae, sample, precision, options)

    rows = [_compared(field, by_wall[:few], cells, of_run, settings) for cells, few in sizes.items()]
    return [*rows, _counted(field, by_wall[: max(sizes.values()) : every], counted, of_run, settings)]


def wall(sample: Any) -> float:
    """The thinnest wall of a prepared object in its view frame; infinite where it has no parallel walls."""
    place = thinnest(*sample.mesh(), rng=numpy_rng("thinnest", sample.object))
    return place.thickness if place else float("inf")


@dataclass
class _Bound:
    """How many times fewer queries than the dense grid's could be enough, object by object."""

    names: list[str] = field(default_factory=list)
    most: list[float] = field(default_factory=list)

    def add(self, name: str, nodes: int, values: Any) -> None:
        self.names.append(name)
        self.most.append(nodes / max(1, needed(values)))

    def told(self, fewer: Sequence[float]) -> str:
        """Of the object with the most surface, in words."""
        worst = min(range(len(fewer)), key=fewer.__getitem__)
        return (
            f"the object that asks for most, {self.names[worst]}: {fewer[worst]:.1f} of {self.most[worst]:.1f} times,"
            " since the ends of all crossed edges have to be known"
        )


@torch.no_grad()
def field_of_object(vae: Any, sample: Any, precision: str, options: Options) -> Counted:
    """What the decoder makes of an object's own latents."""
    points, normals = (torch.from_numpy(a)[None].to(options.device) for a in sample.surface())
    with cast(options, precision):
        keys = vae.decode(vae.encode(points, normals, "hr").mean)
    return Counted(field_of(vae, keys, precision))


def _counted(field: FieldOf, samples: Sequence[Any], cells: int, of_run: str, settings: dict[str, Any]) -> Row:
    """Queries alone, beside the nodes of the dense grid."""
    found, bound, nodes = Found(), _Bound(), (cells + 1) ** 3
    for sample in samples:
        asked = field(sample)
        bound.add(sample.object, nodes, evaluate(asked, cells, **settings))
        found.count(asked.points, nodes)
    return Row(
        f"{cells + 1}^3, {of_run}, {len(samples)} objects, queries alone", "queries", spread(found.queries),
        "dense grid", spread([float(nodes)]), ratio=spread(found.fewer), over="objects", targets=found.fewest(cells),
        not_compared=f"of these, one in {EVERY}, a dense grid would take minutes each",
        limit=bound.told(found.fewer), tried=TRIED, group=GROUP,
    )  # fmt: skip


def _compared(field: FieldOf, samples: Sequence[Any], cells: int, of_run: str, settings: dict[str, Any]) -> Row:
    """Queries, and the mesh beside that of the dense grid."""
    found, bound, steepest, nodes = Found(), _Bound(), [], (cells + 1) ** 3
    for sample in samples:
        asked = field(sample)
        mesh, queries = surface(evaluate(asked, cells, **settings)), asked.points
        dense = dense_values(asked, cells)
        found.add(sample.object, queries, nodes, mesh, surface(dense))
        bound.add(sample.object, nodes, dense)
        steepest.append(faithful.steepest(dense))
    differ = sum(distance > found.equality.tolerance for distance in found.farthest)
    sure = sum(faithful.certified(steep, cells, settings["coarsest"], settings["change"]) for steep in steepest)
    return Row(
        f"{cells + 1}^3, {of_run}, {len(samples)} objects, thinnest wall {wall(samples[0]):.4f}", "queries",
        spread(found.queries), "dense grid", spread([float(nodes)]), ratio=spread(found.fewer), over="objects",
        equality=found.equality, targets=(found.target, *found.fewest(cells)),
        limit=f"{bound.told(found.fewer)}; {found}; {differ} meshes differ; {sure} certified, the least certain would"
        f" need a change of {math.ceil(faithful.change_needed(max(steepest), cells, settings['coarsest']))}",
        tried=TRIED, group=GROUP,
    )  # fmt: skip
