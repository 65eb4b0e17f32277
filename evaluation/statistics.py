"""Intervals of means over objects and seeds, by the bootstrap. Pure NumPy.

Objects and seeds are resampled as crossed factors: a resample draws n objects and, independently, k seeds, and takes
the mean of what they share. Seeds are not drawn anew for each object, because one training stands behind all
objects of a seed: what that training does well or badly does not average out over objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
_CHUNK = 1 << 22  # drawn values at a time: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile interval. low and high are NaN where fewer than two objects are measured.

    n: objects; seeds: of each.
    """

    mean: float
    low: float
    high: float
    n: int
    seeds: int = 1


def bootstrap_mean(
    values: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Mean over objects (and seeds) with a percentile bootstrap interval.

    values: (n_objects,) or (n_objects, n_seeds). An object with a value that is not finite (as volume IoU against an
    open ground truth) is left out with all its seeds. With one seed only objects are resampled: the interval then
    says nothing about other trainings. With one object there is no interval; with none all is NaN.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"values of shape {np.shape(values)}: expected (n_objects,) or (n_objects, n_seeds)")
    table = table[np.isfinite(table).all(axis=1)]
    n, k = table.shape
    if n < 2:
        return Interval(float(table.mean()) if n else float("nan"), float("nan"), float("nan"), n, k)
    means = _resampled_means(table, resamples, rng)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(table.mean()), float(low), float(high), n, k)


def paired_difference(
    a: np.ndarray, b: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Mean of a - b with its interval; the arrays hold the same objects (and seeds) in the same order.

    a, b: (n_objects,) or (n_objects, n_seeds). An object is left out if either of its values is not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} differ: a pair needs the same objects and seeds")
    return bootstrap_mean(a - b, rng=rng, resamples=resamples, level=level)


def _resampled_means(table: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means (resamples,) of `table` (n, k) under resampling of rows and, if there are several, of columns."""
    n, k = table.shape
    means = np.empty(resamples)
    step = max(1, _CHUNK // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        by_seed = np.einsum("rn,nk->rk", _weights(count, n, rng), table)  # not @: BLAS sums depend on its threads
        columns = _weights(count, k, rng) if k > 1 else 1.0
        means[start : start + count] = (by_seed * columns).sum(axis=1)
    return means


def _weights(count: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n is drawn in n draws with replacement, over n; (count, n)."""
    drawn = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n) / n
