"""How cost grows: the slope of a power law, and whether it is steeper than its theory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import Spread

LEAST_SIZES = 5
TOLERANCE = 0.3
"""By which a measured slope may exceed its theory: caches, allocators and libraries have steps of their own."""


def slope(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Exponent p of cost = c size^p by least squares of the logarithms, and its standard error."""
    if len(sizes) != len(costs) or len(set(sizes)) < 3:
        raise ValueError(f"a slope needs as many costs as sizes, at least 3, got {len(costs)} and {len(sizes)}")
    if min(*sizes, *costs) <= 0:
        raise ValueError("sizes and costs must be positive to have logarithms")
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    square = sum((a - mean_x) ** 2 for a in x)
    fitted = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / square
    rest = sum((b - mean_y - fitted * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return fitted, math.sqrt(rest / (len(x) - 2) / square)


@dataclass(frozen=True)
class Curve:
    """Cost at several sizes. theory: the exponent that it should not exceed, or None for a curve beside it."""

    label: str
    size: str
    unit: str
    sizes: tuple[float, ...]
    costs: tuple[Spread, ...]
    theory: float | None
    why: str = ""

    @property
    def slope(self) -> tuple[float, float]:
        """Exponent of the medians, and its standard error."""
        return slope(self.sizes, [cost.median for cost in self.costs])

    @property
    def too_steep(self) -> bool:
        """Whether the exponent exceeds its theory by more than TOLERANCE; a curve without one never does."""
        return self.theory is not None and self.slope[0] > self.theory + TOLERANCE
