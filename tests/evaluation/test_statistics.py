"""Intervals: coverage in simulation, crossed seeds, pairs, degenerate input."""

from __future__ import annotations

import numpy as np
import pytest

from core.randomness import numpy_rng
from evaluation.statistics import bootstrap_mean, paired_difference


def coverage(draw, truth: float, *, trials: int = 300) -> float:
    hits = 0
    for trial in range(trials):
        interval = bootstrap_mean(draw(numpy_rng("data", trial)), rng=numpy_rng("resample", trial), resamples=500)
        hits += interval.low <= truth <= interval.high
    return hits / trials


@pytest.mark.parametrize("draw, truth", [
    (lambda rng: rng.normal(3, 2, size=60), 3.0),
    (lambda rng: rng.exponential(1, size=60), 1.0),
])  # fmt: skip
def test_intervals_over_objects_cover_the_mean(draw, truth):
    assert 0.90 <= coverage(draw, truth) <= 0.985


def test_intervals_cover_where_seeds_move_all_objects_together():
    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=(30, 1)) + rng.normal(size=(1, 12)) + 0.3 * rng.normal(size=(30, 12))

    assert 0.88 <= coverage(draw, 0.0) <= 0.985


def test_the_seed_effect_widens_the_interval():
    rng = numpy_rng("seeds")
    objects = rng.normal(size=(200, 1)) * 0.01
    table = objects + np.array([[-1.0, 0.0, 1.0]])
    together = bootstrap_mean(table, rng=numpy_rng("r"))
    assert together.high - together.low > 1  # 200 objects do not average out what three trainings disagree on
    assert together.n == 200
    assert together.seeds == 3


def test_interval_has_the_width_of_the_standard_error():
    values = numpy_rng("width").normal(size=400)
    interval = bootstrap_mean(values, rng=numpy_rng("r"))
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)
    wide = bootstrap_mean(values, rng=numpy_rng("r"), level=0.99)
    assert wide.low < interval.low < interval.high < wide.high


def test_pairing_removes_what_two_methods_share():
    rng = numpy_rng("pairs")
    hard = rng.normal(size=100) * 5
    a, b = hard + 1 + 0.1 * rng.normal(size=100), hard + 0.1 * rng.normal(size=100)
    gap = paired_difference(a, b, rng=numpy_rng("r"))
    assert 0.9 < gap.low < 1 < gap.high < 1.1


def test_no_effect_is_zero_and_its_interval_holds_zero():
    values = numpy_rng("null").normal(size=(50, 2))
    same = paired_difference(values, values, rng=numpy_rng("r"))
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    hits = 0
    for trial in range(200):
        rng = numpy_rng("null", trial)
        gap = paired_difference(rng.normal(size=40), rng.normal(size=40), rng=rng, resamples=500)
        hits += gap.low <= 0 <= gap.high
    assert hits >= 178


def test_one_object_has_a_mean_and_no_interval():
    for values in ([0.4], [[0.3, 0.5]]):
        interval = bootstrap_mean(np.array(values), rng=numpy_rng("r"))
        assert interval.mean == pytest.approx(0.4)
        assert np.isnan(interval.low)
        assert np.isnan(interval.high)
        assert interval.n == 1


def test_objects_without_a_number_are_left_out_and_counted_out():
    nan = float("nan")
    interval = bootstrap_mean(np.array([1.0, nan, 1.0]), rng=numpy_rng("r"))
    assert (interval.mean, interval.low, interval.high, interval.n) == (1, 1, 1, 2)
    gap = paired_difference(np.array([1.0, nan, 3.0, 4.0]), np.array([0.0, 0.0, nan, 3.0]), rng=numpy_rng("r"))
    assert (gap.mean, gap.n) == (1, 2)
    nothing = bootstrap_mean(np.array([nan]), rng=numpy_rng("r"))
    assert np.isnan(nothing.mean)
    assert nothing.n == 0


def test_same_generator_same_interval_whatever_the_chunks(monkeypatch):
    values = numpy_rng("chunks").normal(size=(30, 3))
    first = bootstrap_mean(values, rng=numpy_rng("r"))
    assert first == bootstrap_mean(values, rng=numpy_rng("r"))
    assert first != bootstrap_mean(values, rng=numpy_rng("s"))


def test_shapes_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\) differ"):
        paired_difference(np.zeros(3), np.zeros(4), rng=numpy_rng("r"))
    with pytest.raises(ValueError, match="expected"):
        bootstrap_mean(np.zeros((2, 2, 2)), rng=numpy_rng("r"))
