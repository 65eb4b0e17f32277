"""Whether coarse to fine gives the mesh of the dense grid, on closed forms, and with how many queries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from benchmarks import faithful
from benchmarks.dense import Counted, dense_mesh
from benchmarks.faithful import Difference
from benchmarks.measure import ratios, spread
from benchmarks.plain import hierarchical
from benchmarks.result import Equality, Row, Target
from benchmarks.shapes import STEEP, Shape, shapes
from methods.layers.coarse_to_fine import evaluate
from methods.layers.extraction import surface

TOLERANCE, OVER = 1e-4, "shapes"
QUERIES = {256: 10.0, 512: 40.0}
"""How many times fewer they should be, by cells."""
PEER = "Hunyuan3D-2's hierarchical decoder, as described"
FEW = ("shell, 0.03 thick", "table on legs of 0.024", "tilted rod, 0.02 thick")
"""At 512 cells, where a dense grid takes its time: the most surface, and the thinnest parts."""
TRIED = (
    "Of what is asked near much surface about half are ends of crossed edges; the rest are middles of edges that might"
    " have been crossed, and coarser grids. Fewer of them would change what may be lost; docs/log.md, `extraction"
    " halves edges`."
)


@dataclass
class Found:
    """What one way of extracting gave on several objects, beside the dense grid."""

    queries: list[float] = field(default_factory=list)
    fewer: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    gained: list[str] = field(default_factory=list)
    farthest: list[float] = field(default_factory=list)

    def add(self, name: str, asked: int, nodes: int, apart: Difference) -> None:
        """One object: queries, nodes of the dense grid, and how its mesh differs from that grid's."""
        self.count(asked, nodes)
        self.lost += [name] * apart.lost
        self.gained += [name] * apart.gained
        self.farthest.append(apart.farthest)

    def count(self, asked: int, nodes: int) -> None:
        """The queries of one object."""
        self.queries.append(float(asked))
        self.fewer.append(nodes / asked)

    @property
    def equality(self) -> Equality:
        """Of the meshes."""
        error = float("inf") if self.lost or self.gained else max(self.farthest)
        return Equality("farthest vertex from the dense mesh, infinite where a component differs", error, TOLERANCE)

    @property
    def target(self) -> Target:
        """That no component differs."""
        return Target("components lost or gained", 0.0, float(len(self.lost + self.gained)), "at most")

    def fewest(self, cells: int) -> tuple[Target, ...]:
        """The target of the queries, where there is one: judged on the object that needs the most of them."""
        return (
            (Target("times fewer queries, worst object", QUERIES[cells], min(self.fewer)),) if cells in QUERIES else ()
        )

    def __str__(self) -> str:
        return f"components lost: {_counted(self.lost)}, gained: {_counted(self.gained)}"


def _counted(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(sorted(set(names)))})" if names else "0"


def agreement(cells: int, settings: dict[str, Any]) -> list[Row]:
    """On closed forms: queries, lost components, farthest vertex, certificate; ours, and the peer as described."""
    chosen = shapes() if cells <= 256 else tuple(shape for shape in shapes() if shape.name in FEW)
    nodes = (cells + 1) ** 3
    ours, theirs, most = Found(), Found(), []
    for shape in chosen:
        dense, least = dense_mesh(shape.name, cells)
        most.append(nodes / least)
        asked = Counted(shape.field)
        mesh = surface(evaluate(asked, cells, **settings))
        ours.add(shape.name, asked.points, nodes, faithful.difference(mesh, dense, TOLERANCE))
        asked = Counted(shape.field)
        mesh = hierarchical.surface(hierarchical.evaluate(asked, cells))
        theirs.add(shape.name, asked.points, nodes, faithful.difference(mesh, dense, TOLERANCE))
    worst = min(range(len(chosen)), key=ours.fewer.__getitem__)
    what = f"{cells + 1}^3, {len(chosen)} closed forms"
    own = Row(
        what, "queries", spread(ours.queries), "dense grid", spread([float(nodes)]), ratio=spread(ours.fewer),
        over=OVER, equality=ours.equality, targets=(*ours.fewest(cells), ours.target), tried=TRIED,
        limit=f"{chosen[worst].name}: {ours.fewer[worst]:.1f} of {most[worst]:.1f} times, since the ends"
        f" of all crossed edges have to be known; {ours}; {certificate(len(chosen), cells, settings)}",
    )  # fmt: skip
    described = Row(
        what, "queries", spread(ours.queries), PEER, spread(theirs.queries), ratio=ratios(theirs.queries, ours.queries),
        equality=theirs.equality, over=OVER,
        limit=f"of what marching cubes needs, ours asks {_times(ours, most)}, the peer {_times(theirs, most)}; its"
        f" {theirs}",
    )  # fmt: skip
    return [own, described]


def _times(found: Found, most: list[float]) -> str:
    """How many times the nodes that are needed a way asked for, the median of the shapes, in words."""
    return f"{spread([limit / fewer for limit, fewer in zip(most, found.fewer, strict=True)]).median:.1f} times"


def certificate(shapes: int, cells: int, settings: dict[str, Any]) -> str:
    """Whether so many closed forms, all equally steep, are certified; if not, which change would do it."""
    needed = faithful.change_needed(STEEP, cells, settings["coarsest"])
    if faithful.certified(STEEP, cells, settings["coarsest"], settings["change"]):
        return f"certified: all {shapes}"
    return f"certified: 0 of {shapes}; a change of {math.ceil(100 * needed) / 100:g} would certify all"


def other_settings(cells: int, settings: dict[str, Any], chosen: tuple[Shape, ...]) -> str:
    """Other changes and first grids on a few shapes, in words: what they cost and what they lose."""
    found = []
    for coarsest, change in ((settings["coarsest"], 0.5), (settings["coarsest"], 4.0), (2 * settings["coarsest"], 2.0)):
        of_these = Found()
        for shape in chosen:
            asked = Counted(shape.field)
            mesh = surface(evaluate(asked, cells, coarsest=coarsest, change=change))
            apart = faithful.difference(mesh, dense_mesh(shape.name, cells)[0], TOLERANCE)
            of_these.add(shape.name, asked.points, (cells + 1) ** 3, apart)
        fewer, sure = spread(of_these.fewer).median, faithful.certified(STEEP, cells, coarsest, change)
        found.append(
            f"a change of {change:g} from {coarsest} cells: {fewer:.1f} times fewer queries, {len(of_these.lost)} lost,"
            f" {'certified' if sure else 'not certified'}"
        )
    return f"Other settings at {cells + 1}^3 on {', '.join(shape.name for shape in chosen)}: {'; '.join(found)}."
