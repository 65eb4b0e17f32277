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
    """Mean over objects (and seeds) with a percentile bootstrap interval.

    values: (n_objects,) or (n_objects, n_seeds). An object with a value that is not finite (as volume IoU against an
    open ground truth) is left out with all its seeds. With one seed only objects are resampled: the interval then
    says nothing about other trainings. With one object there is no interval; with none all is NaN.
    """
    table = _measured(values)
    n, k = table.shape
    if n < 2:
        return Interval(float(table.mean()) if n else float("nan"), float("nan"), float("nan"), n, k)
    means = _resampled_means(table, resamples, rng)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(table.mean()), float(low), float(high), n, k)


def paired_effect(
    differences: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES, level: float = LEVEL
) -> Effect:
    """Mean of paired differences with the interval and the p-value of one test, by the symmetric bootstrap-t.

    differences: (n_objects,) or (n_objects, n_seeds); objects as in `bootstrap_mean`. How many of its own standard
    errors is the mean of a resample away from the sample's mean? p: how often as many as that is from 0; the interval:
    as far as `level` of the resamples are. So it leaves out 0 where p < 1 - level. A percentile interval of few objects
    is too narrow, and a family of tests looks far into its tails; dividing by the resample's own standard error mends
    that (Hall 1992, section 3.6). With several seeds the standard error is that of two crossed random factors. Few
    seeds can be resampled in few ways, so Student's t with one degree of freedom less than there are seeds has to agree
    then: whatever the seeds' share of the variance, the level is kept, and two seeds decide hardly anything. No p-value
    is below 2^(1 - n), that of n signs which agree.
    """
    table = _measured(differences)
    n, k = table.shape
    nan = float("nan")
    if n < 2:
        return Effect(float(table.mean()) if n else nan, nan, nan, n, k, nan)
    mean, error = float(table.mean()), float(_standard_errors(*_evenly(table), table)[1][0])
    least = 2.0 ** (1 - n)
    if error <= 1e-12 * max(abs(mean), np.abs(table).max()):  # all differences are the same number
        return Effect(mean, mean, mean, n, k, 1.0 if mean == 0 else max(1 / (resamples + 1), least))
    away = _studentised(table, resamples, rng)
    beyond, reach = (
        int((away >= abs(mean) / error * (1 - 1e-12)).sum()),
        float(np.quantile(away, level, method="higher")),
    )
    p = max((beyond + 1) / (resamples + 1), least)
    if k > 1:
        p = max(p, 2 * float(special.stdtr(k - 1, -abs(mean) / error)))
        reach = max(reach, float(special.stdtrit(k - 1, (1 + level) / 2)))
    # Of three objects a resample is one of them, repeated, too often for an interval at this level.
    low, high = (mean - reach * error, mean + reach * error) if np.isfinite(reach) else (nan, nan)
    return Effect(mean, low, high, n, k, p)


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


def _studentised(table: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How many of its own standard errors each resample's mean is away from the mean of `table` (n, k)."""
    n, k = table.shape
    mean, away, step = table.mean(), np.empty(resamples), max(1, _CHUNK // (n * k))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        objects = _weights(count, n, rng)
        seeds = _weights(count, k, rng) if k > 1 else np.ones((count, 1))
        means, errors = _standard_errors(objects, seeds, table)
        # A resample of one object, repeated, has no spread, and counts as far away.
        spread = errors > 1e-12 * np.abs(table).max()
        away[start : start + count] = np.where(spread, np.abs(means - mean) / np.where(spread, errors, 1.0), np.inf)
    return away


def _evenly(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the objects (1, n) and seeds (1, k) of the sample itself."""
    n, k = table.shape
    return np.full((1, n), 1 / n), np.full((1, k), 1 / k)


def _standard_errors(objects: np.ndarray, seeds: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and their standard errors (r,) of `table` (n, k) under weights of objects (r, n) and of seeds (r, k).

    One seed: the standard deviation over objects / sqrt(n). Several: objects and seeds are crossed random factors, so
    the variance of the mean is (MS_objects + MS_seeds - MS_rest) / (n k), but not below its larger part alone.
    """
    means, of_objects, of_seeds, rest = _variances(objects, seeds, table)
    return means, np.sqrt(np.maximum(of_objects + of_seeds - rest, np.maximum(of_objects, of_seeds)))


def _variances(objects: np.ndarray, seeds: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means, and MS_objects, MS_seeds and MS_rest over n k, each (r,); the last two are 0 with one seed."""
    n, k = table.shape
    by_object = np.einsum("rk,nk->rn", seeds, table)
    means = (objects * by_object).sum(axis=1)
    of_objects = (objects * (by_object - means[:, None]) ** 2).sum(axis=1) / (n - 1)
    if k == 1:
        return means, of_objects, np.zeros_like(means), np.zeros_like(means)
    by_seed = np.einsum("rn,nk->rk", objects, table)
    of_seeds = (seeds * (by_seed - means[:, None]) ** 2).sum(axis=1) / (k - 1)
    squares = np.einsum("rn,rk,nk->r", objects, seeds, table**2) - means**2
    rest = squares - of_objects * (n - 1) - of_seeds * (k - 1)  # weighted sums of squares over n k
    return means, of_objects, of_seeds, rest / ((n - 1) * (k - 1))


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
