"""The decoder of a finished run on objects that it was not taught: is its mesh that of the dense grid, at what cost?

Nothing is timed here, so other work may run beside it: queries are counted, and meshes compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks import faithful
from benchmarks.extraction import settings_of
from benchmarks.extraction_same import Found
from benchmarks.finished import CEILING, NOT_RUN, finished
from benchmarks.growth import Curve
from benchmarks.measure import spread
from benchmarks.options import Options
from benchmarks.real_objects import Decoder, Extracted, shared, unseen, wall
from benchmarks.result import Outcome, Row, Target

SUMMARY = "mesh extraction by a fitted decoder, of objects that it was not taught"
GROUP = "a fitted decoder"
OBJECTS = {128: 100, 256: 100, 512: 4}
"""How many objects are compared at so many cells, those with the thinnest walls."""
COUNTED, EVERY = 512, 10
"""Cells at which the queries of one object in ten of the hundred are counted; a dense grid takes minutes an object."""
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
        return [Row(GROUP, "queries", None, "dense grid", peer_status=NOT_RUN, targets=(target,), group=GROUP)]
    scale = finished(options.finished, CEILING).scale
    by_wall, decoder = unseen(options), Decoder.of(options)
    sizes, counted, every = ({32: 2}, 32, 1) if options.quick else (OBJECTS, COUNTED, EVERY)
    of_run = f"a decoder fitted to {options.finished.resolve().parent.name} at {scale}"
    thinnest = wall(by_wall[0])

    def rows() -> list[Row]:
        for cells, few in sizes.items():
            work = partial(decoder.extract, cells=cells, settings=settings, compare=True)
            found = shared(work, by_wall[:few], options)
            yield _compared(found, cells, f"{of_run}, {len(found)} objects, thinnest wall {thinnest:.4f}", settings)
        work = partial(decoder.extract, cells=counted, settings=settings, compare=False)
        found = shared(work, by_wall[: max(sizes.values()) : every], options)
        yield _counted(found, counted, f"{of_run}, {len(found)} objects, queries alone")

    return list(rows())


def _compared(objects: Sequence[Extracted], cells: int, what: str, settings: dict[str, Any]) -> Row:
    """Queries, and the mesh beside that of the dense grid."""
    found = Found()
    for each in objects:
        found.add(each.name, each.queries, (cells + 1) ** 3, each.apart)
    steepest = [each.steepest for each in objects]
    differ = sum(distance > found.equality.tolerance for distance in found.farthest)
    sure = sum(faithful.certified(steep, cells, settings["coarsest"], settings["change"]) for steep in steepest)
    return _row(
        objects, cells, what, found, equality=found.equality, targets=(found.target, *found.fewest(cells)),
        limit=f"; {found}; {differ} meshes differ; {sure} certified, the least certain would need a change of"
        f" {math.ceil(faithful.change_needed(max(steepest), cells, settings['coarsest']))}",
    )  # fmt: skip


def _counted(objects: Sequence[Extracted], cells: int, what: str) -> Row:
    """Queries alone, beside the nodes of the dense grid."""
    found = Found()
    for each in objects:
        found.count(each.queries, (cells + 1) ** 3)
    return _row(
        objects, cells, what, found, targets=found.fewest(cells), limit="",
        not_compared=f"one in {EVERY} of the hundred; a dense grid takes minutes an object",
    )  # fmt: skip


def _row(objects: Sequence[Extracted], cells: int, what: str, found: Found, *, limit: str, **rest: Any) -> Row:
    """What both kinds of rows have; the limit begins with what the object that asks for most could do with."""
    nodes = (cells + 1) ** 3
    worst = max(objects, key=lambda each: each.queries)
    bound = (
        f"the object that asks for most, {worst.name}: {nodes / worst.queries:.1f} of"
        f" {nodes / max(1, worst.needed):.1f} times, since the ends of all crossed edges have to be known"
    )
    return Row(
        f"{cells + 1}^3, {what}", "queries", spread(found.queries), "dense grid", spread([float(nodes)]),
        ratio=spread(found.fewer), over="objects", limit=bound + limit, tried=TRIED, group=GROUP, **rest,
    )  # fmt: skip
