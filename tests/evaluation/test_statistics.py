"""Intervals: coverage in simulation, crossed seeds, pairs, degenerate input."""

from __future__ import annotations

import numpy as np
import pytest

from core.randomness import numpy_rng
from evaluation import statistics
from evaluation.statistics import bootstrap_mean, bootstrap_p, holm, paired_difference


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


def rejected(draw, level: float, *, trials: int = 300, resamples: int = 500) -> int:
    values = (draw(numpy_rng("data", trial)) for trial in range(trials))
    p = [bootstrap_p(v, rng=numpy_rng("resample", trial), resamples=resamples) for trial, v in enumerate(values)]
    return int((np.array(p) <= level).sum())


@pytest.mark.parametrize("draw", [
    lambda rng: rng.normal(size=20),
    lambda rng: rng.exponential(size=20) - 1,
    lambda rng: rng.normal(size=(20, 1)) + 0.5 * rng.normal(size=(20, 3)),
])  # fmt: skip
def test_a_null_is_rejected_as_often_as_stated(draw):
    # 10 % of 300 within three standard deviations of a binomial
    assert 15 <= rejected(draw, 0.1) <= 45


def test_p_agrees_with_the_t_test_on_normal_differences():
    from scipy.stats import ttest_1samp

    for shift in (0.1, 0.3, 0.5):
        values = numpy_rng("t", str(shift)).normal(size=40) + shift
        assert bootstrap_p(values, rng=numpy_rng("r")) == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.02)


def test_p_of_degenerate_differences():
    assert bootstrap_p(np.zeros(30), rng=numpy_rng("r")) == 1
    assert bootstrap_p(np.full(30, 0.2), rng=numpy_rng("r"), resamples=999) == pytest.approx(0.001)
    assert bootstrap_p(np.full(4, 0.2), rng=numpy_rng("r")) == 2**-3  # four equal signs say no more
    assert np.isnan(bootstrap_p(np.array([0.3]), rng=numpy_rng("r")))
    assert np.isnan(bootstrap_p(np.array([0.3, np.nan]), rng=numpy_rng("r")))


def test_seeds_that_disagree_have_a_large_p():
    table = 0.01 * numpy_rng("o").normal(size=(200, 1)) + np.array([[-0.5, 0.2, 0.9]])
    assert bootstrap_p(table, rng=numpy_rng("r")) > 0.3
    assert bootstrap_p(table[:, 2], rng=numpy_rng("r")) < 0.001


def test_holm_by_hand():
    # sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.5 * 1, each at least the one before
    np.testing.assert_allclose(holm(np.array([0.03, 0.5, 0.01, 0.02])), [0.06, 0.5, 0.04, 0.06])
    np.testing.assert_allclose(holm(np.array([0.4, 0.9])), [0.8, 0.9])
    assert holm(np.array([])).shape == (0,)
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm(np.array([0.1, float("nan")]))


def test_holm_holds_the_family_wise_error_under_the_global_null():
    families = 4000
    p = numpy_rng("holm").random((families, 10))
    wrong = sum(bool((holm(row) <= 0.05).any()) for row in p)
    # 1 - 0.995^10 = 4.9 % of independent families, within three standard deviations
    assert abs(wrong / families - (1 - 0.995**10)) < 3 * np.sqrt(0.05 * 0.95 / families)


def test_holm_rejects_more_than_bonferroni():
    p = np.array([0.001, 0.006, 0.02])
    assert (holm(p) <= 0.05).sum() == 3
    assert (3 * p <= 0.05).sum() == 2


def in_chunks(monkeypatch, resamples_at_once: int, n: int, call):
    """A result for `n` objects of one seed, computed that many resamples at a time."""
    monkeypatch.setattr(statistics, "_CHUNK", resamples_at_once * n)
    return call()


@pytest.mark.parametrize("at_once", [1, 7, 333, 999])
def test_chunks_of_resamples_give_what_one_piece_gives(monkeypatch, at_once):
    values = numpy_rng("chunks").normal(0.2, 1, size=40)  # one seed: a resample is 40 draws, whoever draws before it

    def interval():
        return bootstrap_mean(values, rng=numpy_rng("r"), resamples=1000)

    def p_value():
        return bootstrap_p(values, rng=numpy_rng("r"), resamples=1000)

    for call in (interval, p_value):
        assert in_chunks(monkeypatch, at_once, 40, call) == in_chunks(monkeypatch, 1000, 40, call)


def test_chunks_with_several_seeds_estimate_the_same_interval(monkeypatch):
    # Objects and seeds are drawn in turn, chunk by chunk: other resamples, so equal but for their noise.
    table = numpy_rng("crossed").normal(size=(50, 1)) + numpy_rng("effects").normal(size=(1, 4))

    def interval():
        return bootstrap_mean(table, rng=numpy_rng("r"), resamples=20_000)

    whole, parts = in_chunks(monkeypatch, 20_000, 50, interval), in_chunks(monkeypatch, 300, 50, interval)
    assert parts != whole
    assert (parts.mean, parts.n, parts.seeds) == (whole.mean, whole.n, whole.seeds)
    width = whole.high - whole.low
    assert abs(parts.low - whole.low) < 0.03 * width and abs(parts.high - whole.high) < 0.03 * width


def test_memory_is_bounded_by_the_chunk(monkeypatch):
    drawn = []
    original = statistics._weights
    monkeypatch.setattr(statistics, "_weights", lambda count, n, rng: drawn.append(count) or original(count, n, rng))
    in_chunks(monkeypatch, 300, 40, lambda: bootstrap_mean(np.arange(40.0), rng=numpy_rng("r"), resamples=1000))
    assert drawn == [300, 300, 300, 100]
