"""Timing: calls are interleaved (A B A B …) in one process, so that a change of the machine's load meets all of them.

A ratio is taken within each round and then summarised, never formed from two summaries.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest.mock import patch

LEAST_ROUNDS = 3
"""That many are made even where they take longer than was allowed."""
LEAST_FOR_QUARTILES = 4
"""Quartiles of fewer numbers lie between two of them, and would look closer together than what was measured."""


@dataclass(frozen=True)
class Spread:
    """Median of n repeated measurements, with their quartiles or, of fewer than four, the smallest and the largest."""

    median: float
    low: float
    high: float
    n: int

    def times(self, factor: float) -> Spread:
        """The same in another unit, by a positive factor."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.n)


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles (linear between neighbours); of fewer than four values the smallest and the largest."""
    if not values:
        raise ValueError("nothing was measured")
    if len(values) < LEAST_FOR_QUARTILES:
        return Spread(statistics.median(values), min(values), max(values), len(values))
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def ratios(slow: Sequence[float], fast: Sequence[float], factor: float = 1.0) -> Spread:
    """factor * slow / fast within each round: above 1 where `fast` is faster."""
    return spread([factor * a / b for a, b in zip(slow, fast, strict=True)])


def nothing() -> None:
    """There is nothing to wait for: on a CPU a call is over when it returns."""


def interleaved(
    calls: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 7,
    seconds: float = math.inf,
    warm_up: int = 1,
    wait: Callable[[], Any] = nothing,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call in each round; a round makes all calls, in their order.

    rounds: at most. seconds: no round begins after so long, but LEAST_ROUNDS (or `rounds`, if fewer) are made.
    warm_up: rounds before, that are not kept. wait: blocks until a device is done; called before the clock is read.
    """
    for _ in range(warm_up):
        for call in calls.values():
            call()
    wait()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    begun = clock()
    for done in range(rounds):
        if done >= LEAST_ROUNDS and clock() - begun > seconds:
            break
        for name, call in calls.items():
            start = clock()
            call()
            wait()
            taken[name].append(clock() - start)
    return taken


@contextmanager
def stages(*functions: tuple[ModuleType | type, str]) -> Iterator[dict[str, float]]:
    """Seconds spent in functions, by name, while the block runs: each is replaced by itself with a clock.

    A function that calls another of these counts for both. Only calls through the named module (or class) are seen.
    """
    spent = {name: 0.0 for _, name in functions}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += time.perf_counter() - start

        return call

    replaced = [patch.object(owner, name, timed(name, getattr(owner, name))) for owner, name in functions]
    try:
        for replacement in replaced:
            replacement.start()
        yield spent
    finally:
        for replacement in reversed(replaced):
            replacement.stop()
