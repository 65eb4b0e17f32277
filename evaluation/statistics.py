"""Intervals and tests of means over objects and seeds, by the bootstrap. Pure functions of arrays.

Objects and seeds are resampled as crossed factors: a resample draws n objects and, independently, k seeds, and takes
the mean of what they share. Seeds are not drawn anew for each object, because one training stands behind all
objects of a seed: what that training does well or badly does not average out over objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95
RESAMPLES = 10_000
_CHUNK = 1 << 22  # drawn values at a time: bounds the memory


@dataclass(frozen=True)
class Interval:
    """A mean with its interval. low and high are NaN where fewer than two objects are measured.

    n: objects; seeds: of each.
    """

    mean: float
    low: float
    high: float
    n: int
    seeds: int = 1


@dataclass(frozen=True)
class Effect(Interval):
    """A mean paired difference, its interval, and the two-sided p-value of the hypothesis that it is 0."""

    p: float = float("nan")


def bootstrap_mean(
    values: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Mean over objects (and seeds) with an expanded percentile bootstrap interval (see `_expanded`).

    values: (n_objects,) or (n_objects, n_seeds). An object with a value that is not finite (as volume IoU against an
    open ground truth) is left out with all its seeds. With one seed only objects are resampled: the interval then
    says nothing about other trainings. With one object there is no interval; with none all is NaN.
    """
    table = _measured(values)
    n, k = table.shape
    if n < 2:
        return Interval(float(table.mean()) if n else float("nan"), float("nan"), float("nan"), n, k)
    means = _resampled_means(table, resamples, rng)
    tail = (1 - _expanded(level, n)) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(table.mean()), float(low), float(high), n, k)


def paired_effect(
    differences: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES, level: float = LEVEL
) -> Effect:
    """Mean of paired differences with the interval and the p-value of one test, by a symmetric bootstrap.

    differences: (n_objects,) or (n_objects, n_seeds); objects as in `bootstrap_mean`. How far are resampled means from
    the sample's? p: how often as far as that is from 0; the interval: as far as `level` of them are. Both are widened
    (see `_expanded`). So the interval leaves out 0 where p < 1 - level. Not studentised: a single failed object, whose
    worst value most resamples have and others have not, would make such intervals many times as wide as their mean.
    With several seeds the standard error is that of two crossed random factors; few can be resampled in few ways, so
    Student's t with one degree of freedom less than there are seeds has to agree: whatever the seeds' share of the
    variance, the level is kept, and two seeds decide hardly anything. No p-value is below 2^(1 - n), that of n signs
    which agree.
    """
    table = _measured(differences)
    n, k = table.shape
    nan = float("nan")
    if n < 2:
        return Effect(float(table.mean()) if n else nan, nan, nan, n, k, nan)
    mean, error, least = float(table.mean()), _standard_error(table), 2.0 ** (1 - n)
    if error <= 1e-12 * np.abs(table).max():  # all differences are the same number
        return Effect(mean, mean, mean, n, k, 1.0 if mean == 0 else max(1 / (resamples + 1), least))
    away = np.abs(_resampled_means(table, resamples, rng) - mean)
    tail = (int((away >= abs(mean) * (1 - 1e-12)).sum()) + 1) / (resamples + 1)
    p = 2 * float(special.stdtr(n - 1, special.ndtri(tail / 2) * _narrow(n)))
    reach = float(np.quantile(away, _expanded(level, n), method="higher"))
    if k > 1:
        p = max(p, 2 * float(special.stdtr(k - 1, -abs(mean) / error)))
        reach = max(reach, float(special.stdtrit(k - 1, (1 + level) / 2)) * error)
    return Effect(mean, mean - reach, mean + reach, n, k, min(1.0, max(p, least)))


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of a family of tests (m,): those below alpha are rejected with family-wise error at most alpha.

    Holm 1979: the i-th smallest of m is multiplied by m - i + 1, and none is smaller than the one before it.
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or np.isnan(p).any() or ((p < 0) | (p > 1)).any():
        raise ValueError(f"p-values of shape {p.shape}: expected (m,) numbers between 0 and 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _measured(values: np.ndarray) -> np.ndarray:
    """(n_objects, n_seeds) of the objects whose values are all finite."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"values of shape {np.shape(values)}: expected (n_objects,) or (n_objects, n_seeds)")
    return table[np.isfinite(table).all(axis=1)]


def _narrow(n: int) -> float:
    """What the spread of resampled means of n is of a standard error: it has n where that has n - 1."""
    return float(np.sqrt((n - 1) / n))


def _expanded(level: float, n: int) -> float:
    """The share of resampled means of n that an interval of this level must hold.

    From the normal to Student's t with n - 1 degrees of freedom: the expanded percentile interval (Hesterberg 2015, The
    American Statistician 69), since of few objects a plain one is too narrow.
    """
    return float(2 * special.ndtr(special.stdtrit(n - 1, (1 + level) / 2) / _narrow(n)) - 1)


def _standard_error(table: np.ndarray) -> float:
    """Of the mean of `table` (n, k), n > 1.

    One seed: the standard deviation over objects / sqrt(n). Several: objects and seeds are crossed random factors, so
    the variance of the mean is (MS_objects + MS_seeds - MS_rest) / (n k), but not below its larger part alone.
    """
    n, k = table.shape
    by_object, by_seed, mean = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True), table.mean()
    of_objects = by_object.var(ddof=1) / n
    if k == 1:
        return float(np.sqrt(of_objects))
    of_seeds = by_seed.var(ddof=1) / k
    rest = ((table - by_object - by_seed + mean) ** 2).sum() / ((n - 1) * (k - 1) * n * k)
    return float(np.sqrt(max(of_objects + of_seeds - rest, of_objects, of_seeds)))


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
