"""How cost grows: the slope of a power law, and whether it is steeper than its theory."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from benchmarks.measure import Spread

LEAST_SIZES = 5
TOLERANCE = 0.3
"""By which a measured slope may exceed its theory: caches, allocators and libraries have steps of their own."""


def slope(sizes: Sequence[float], costs: Sequence[float], families: Sequence[Hashable] = ()) -> tuple[float, float]:
    """Exponent p of cost = c size^p by least squares of the logarithms, and its standard error.

    families: of each size, if sizes of several kinds stand together; each has a factor c of its own, all the same p.
    """
    if len(sizes) != len(costs) or len(set(sizes)) < 3:
        raise ValueError(f"a slope needs as many costs as sizes, at least 3, got {len(costs)} and {len(sizes)}")
    if min(*sizes, *costs) <= 0:
        raise ValueError("sizes and costs must be positive to have logarithms")
    families = families or (0,) * len(sizes)
    x, y = (_centred([math.log(value) for value in values], families) for values in (sizes, costs))
    square = sum(a * a for a in x)
    fitted = sum(a * b for a, b in zip(x, y, strict=True)) / square
    rest = sum((b - fitted * a) ** 2 for a, b in zip(x, y, strict=True))
    return fitted, math.sqrt(rest / (len(x) - len(set(families)) - 1) / square)


def _centred(values: Sequence[float], families: Sequence[Hashable]) -> list[float]:
    """Each value less the mean of its family."""
    members: dict[Hashable, list[float]] = {}
    for value, family in zip(values, families, strict=True):
        members.setdefault(family, []).append(value)
    means = {family: sum(some) / len(some) for family, some in members.items()}
    return [value - means[family] for value, family in zip(values, families, strict=True)]


@dataclass(frozen=True)
class Curve:
    """Cost at several sizes. theory: the exponent that it should not exceed, or None for a curve beside it.

    families: as `slope` takes them. tried: why it is steeper, where it is known to be. expected: in place of `theory`,
    where that is no power law, its cost at each size, up to a factor.
    """

    label: str
    size: str
    unit: str
    sizes: tuple[float, ...]
    costs: tuple[Spread, ...]
    theory: float | None
    why: str = ""
    families: tuple[float, ...] = ()
    tried: str = ""
    expected: tuple[float, ...] = ()

    @property
    def slope(self) -> tuple[float, float]:
        """Exponent of the medians, and its standard error."""
        return slope(self.sizes, [cost.median for cost in self.costs], self.families)

    @property
    def last(self) -> float:
        """Exponent between the largest size and the next smaller one of its family: where the curve is going."""
        return self._last_of([cost.median for cost in self.costs])

    @property
    def allowed(self) -> tuple[float, float] | None:
        """The theory's exponents, of all sizes and of the last interval; None for a curve without a theory."""
        if self.expected:
            return slope(self.sizes, self.expected, self.families)[0], self._last_of(self.expected)
        if self.theory is None:
            return None
        return self.theory, self.theory

    def _last_of(self, costs: Sequence[float]) -> float:
        families = self.families or (0,) * len(self.sizes)
        of_largest = dict(zip(self.sizes, families, strict=True))[max(self.sizes)]
        kept = [i for i, family in enumerate(families) if family == of_largest]
        (before, cheaper), (size, cost) = sorted((self.sizes[i], costs[i]) for i in kept)[-2:]
        return math.log(cost / cheaper) / math.log(size / before)

    @property
    def too_steep(self) -> bool:
        """Whether the exponent, of all or of the last interval, exceeds its theory by more than TOLERANCE."""
        if self.allowed is None:
            return False
        whole, last = self.allowed
        return self.slope[0] > whole + TOLERANCE or self.last > last + TOLERANCE
