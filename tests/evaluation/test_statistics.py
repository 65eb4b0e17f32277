"""Intervals: coverage in simulation, crossed seeds, pairs, degenerate input."""

from __future__ import annotations

import numpy as np
import pytest

from core.randomness import numpy_rng
from evaluation import statistics
from evaluation.statistics import bootstrap_mean, holm, paired_effect


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


def test_intervals_over_few_objects_cover_the_mean():
    assert coverage(lambda rng: rng.normal(3, 2, size=6), 3.0, trials=600) >= 0.92  # a plain percentile interval: 0.88


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
    gap = paired_effect(a - b, rng=numpy_rng("r"))
    assert 0.9 < gap.low < 1 < gap.high < 1.1


def test_no_effect_is_zero_and_its_interval_holds_zero():
    same = paired_effect(np.zeros((50, 2)), rng=numpy_rng("r"))
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    hits = 0
    for trial in range(200):
        gap = paired_effect(numpy_rng("null", trial).normal(size=40), rng=numpy_rng("r", trial), resamples=500)
        hits += gap.low <= 0 <= gap.high
    assert 180 <= hits <= 198  # 95 % within three standard deviations


def test_interval_and_p_are_of_one_test_and_a_reversed_difference_is_its_mirror_image():
    for shift in np.linspace(0.0, 0.6, 13):
        values = numpy_rng("shifted").exponential(size=(40, 1)) - 1 + shift
        values = values + (numpy_rng("seeds").normal(size=(1, 3)) * 0.05 if shift > 0.3 else 0.0)
        gap, back = (paired_effect(sign * values, rng=numpy_rng("r")) for sign in (1, -1))
        assert (gap.low <= 0 <= gap.high) == (gap.p >= 0.05), shift
        assert (back.mean, back.low, back.high, back.p) == (-gap.mean, -gap.high, -gap.low, gap.p)
        assert gap.mean - gap.low == pytest.approx(gap.high - gap.mean)


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
    gap = paired_effect(np.array([1.0, nan, 3.0, 4.0]) - np.array([0.0, 0.0, nan, 3.0]), rng=numpy_rng("r"))
    assert (gap.mean, gap.n) == (1, 2)
    nothing = bootstrap_mean(np.array([nan]), rng=numpy_rng("r"))
    assert np.isnan(nothing.mean)
    assert nothing.n == 0


def test_same_generator_same_interval_whatever_the_chunks(monkeypatch):
    values = numpy_rng("chunks").normal(size=(30, 3))
    first = bootstrap_mean(values, rng=numpy_rng("r"))
    assert first == bootstrap_mean(values, rng=numpy_rng("r"))
    assert first != bootstrap_mean(values, rng=numpy_rng("s"))


@pytest.mark.parametrize("estimate", [bootstrap_mean, paired_effect])
def test_shapes_that_are_not_objects_and_seeds_are_refused(estimate):
    with pytest.raises(ValueError, match="expected"):
        estimate(np.zeros((2, 2, 2)), rng=numpy_rng("r"))


def rejected(draw, level: float, *, trials: int = 300, resamples: int = 500) -> int:
    values = (draw(numpy_rng("data", trial)) for trial in range(trials))
    p = [paired_effect(v, rng=numpy_rng("resample", trial), resamples=resamples).p for trial, v in enumerate(values)]
    return int((np.array(p) <= level).sum())


@pytest.mark.parametrize("draw", [
    lambda rng: rng.normal(size=20),
    lambda rng: rng.exponential(size=20) - 1,
])  # fmt: skip
def test_a_null_is_rejected_as_often_as_stated(draw):
    # 10 % of 300 within three standard deviations of a binomial
    assert 15 <= rejected(draw, 0.1) <= 45


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("moved", [0.0, 0.3, 1.0, 3.0])
def test_a_null_is_rejected_no_more_often_than_stated_whatever_the_seeds_differ_in(seeds, moved):
    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=(20, 1)) + moved * rng.normal(size=(1, seeds)) + rng.normal(size=(20, seeds))

    assert rejected(draw, 0.1) <= 45


def test_one_failed_object_widens_the_interval_by_what_it_weighs():
    values = numpy_rng("usual").normal(0.0, 0.03, size=48)
    values[0] = 3.4  # the worst value there is, against a usual one
    gap = paired_effect(values, rng=numpy_rng("r"))
    assert gap.low < 0 < gap.high < 5 * 3.4 / 48


def test_seeds_that_agree_decide():
    table = numpy_rng("agree").normal(size=(60, 1)) * 0.1 + 0.2 + 0.02 * numpy_rng("s").normal(size=(60, 3))
    assert paired_effect(table, rng=numpy_rng("r")).p < 0.01


def test_p_agrees_with_the_t_test_on_normal_differences():
    from scipy.stats import ttest_1samp

    for shift in (0.1, 0.3, 0.5):
        values = numpy_rng("t", str(shift)).normal(size=40) + shift
        assert paired_effect(values, rng=numpy_rng("r")).p == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.02)


def test_p_of_degenerate_differences():
    assert paired_effect(np.zeros(30), rng=numpy_rng("r")).p == 1
    assert paired_effect(np.full(30, 0.2), rng=numpy_rng("r"), resamples=999).p == pytest.approx(0.001)
    assert paired_effect(np.full(4, 0.2), rng=numpy_rng("r")).p == 2**-3  # four equal signs say no more
    assert np.isnan(paired_effect(np.array([0.3]), rng=numpy_rng("r")).p)
    assert np.isnan(paired_effect(np.array([0.3, np.nan]), rng=numpy_rng("r")).p)


def test_seeds_that_disagree_have_a_large_p():
    table = 0.01 * numpy_rng("o").normal(size=(200, 1)) + np.array([[-0.5, 0.2, 0.9]])
    assert paired_effect(table, rng=numpy_rng("r")).p > 0.3
    assert paired_effect(table[:, 2], rng=numpy_rng("r")).p < 0.001


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

    def effect():
        return paired_effect(values, rng=numpy_rng("r"), resamples=1000)

    for call in (interval, effect):
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
