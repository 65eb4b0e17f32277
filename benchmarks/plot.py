"""Cost against size on logarithmic axes, with the slope that was fitted and the one that theory allows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from matplotlib.ticker import LogLocator

from benchmarks.growth import Curve
from benchmarks.measure import Spread
from core.files import atomic_path
from reports.figures.style import COLUMN, FAINT, MARKS, figure


def draw(curves: Sequence[Curve], path: Path) -> None:
    """A panel for each unit of cost among the curves, side by side, as PNG."""
    units = list(dict.fromkeys((curve.size, curve.unit) for curve in curves))
    with figure(COLUMN * len(units), 2.8) as made:
        panels = made.subplots(1, len(units), squeeze=False)[0]
        for axes, unit in zip(panels, units, strict=True):
            for curve, mark in zip([c for c in curves if (c.size, c.unit) == unit], cycle(MARKS), strict=False):
                label = f"{curve.label}: slope {curve.slope[0]:.2f}"
                for sizes, costs in _families(curve):
                    spans = [[c.median - c.low for c in costs], [c.high - c.median for c in costs]]
                    axes.errorbar(sizes, [c.median for c in costs], spans, color=mark.colour, marker=mark.marker,
                                  linestyle=mark.line, label=label)  # fmt: skip
                    label = None  # one line in the legend, however many families there are
                if curve.allowed is not None:
                    axes.plot(sorted(curve.sizes), theory_through_middle(curve), color=FAINT, linewidth=0.6,
                              label=f"slope of the theory: {curve.allowed[0]:.2f}")  # fmt: skip
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xticks(sorted({size for c in curves if (c.size, c.unit) == unit for size in c.sizes}))
            axes.minorticks_off()
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xlabel(unit[0])
            axes.set_ylabel({"s": "seconds"}.get(unit[1], unit[1]))
            axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0))
        made.tight_layout()
        with atomic_path(path) as temporary:
            made.savefig(temporary, format="png", metadata={"Software": None})


def _families(curve: Curve) -> list[tuple[list[float], list[Spread]]]:
    """Sizes and costs of each family, which are joined by a line of their own."""
    families = curve.families or (0,) * len(curve.sizes)
    points = list(zip(families, curve.sizes, curve.costs, strict=True))
    return [([s for g, s, _ in points if g == f], [c for g, _, c in points if g == f]) for f in dict.fromkeys(families)]


def theory_through_middle(curve: Curve) -> list[float]:
    """What the theory says of each size, smallest first, with the geometric mean of what was measured.

    A power law is straight; a theory that is none (`Curve.expected`) bends where it does.
    """
    expected = curve.expected or tuple(size**curve.theory for size in curve.sizes)
    level = statistics.geometric_mean(cost.median for cost in curve.costs) / statistics.geometric_mean(expected)
    return [level * cost for _, cost in sorted(zip(curve.sizes, expected, strict=True))]
