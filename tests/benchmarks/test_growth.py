"""Slopes of power laws with a known exponent."""

import numpy as np
import pytest

from benchmarks.growth import TOLERANCE, Curve, slope
from benchmarks.measure import Spread
from benchmarks.plot import theory_through_middle

SIZES = (1.0, 2.0, 4.0, 8.0, 16.0)


def curve(exponent, theory):
    costs = tuple(Spread(3 * s**exponent, 0.0, 0.0, 1) for s in SIZES)
    return Curve("c", "points", "s", SIZES, costs, theory)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 2.5])
def test_a_power_law_gives_its_exponent_without_error(exponent):
    assert slope(SIZES, [7 * s**exponent for s in SIZES]) == pytest.approx((exponent, 0.0), abs=1e-9)


def test_the_standard_error_is_that_of_least_squares():
    x = np.log(SIZES)
    noise = np.array([0.1, -0.2, 0.05, 0.15, -0.1])
    found, error = slope(SIZES, np.exp(1.5 * x + noise))
    fitted, covariance = np.polyfit(x, 1.5 * x + noise, 1, cov="unscaled")
    rest = 1.5 * x + noise - np.polyval(fitted, x)
    assert found == pytest.approx(fitted[0])
    assert error == pytest.approx(np.sqrt(covariance[0, 0] * (rest @ rest) / 3))


def test_too_steep_is_beyond_theory_and_tolerance():
    assert curve(2.0 + TOLERANCE + 0.01, 2.0).too_steep
    assert not curve(2.0 + TOLERANCE - 0.01, 2.0).too_steep
    assert not curve(5.0, None).too_steep


def test_families_share_a_slope_and_not_a_factor():
    sizes = (64, 96, 128, 192, 256, 384)
    families = (32, 48) * 3
    costs = [(1.0 if family == 32 else 5.0) * size**2 for size, family in zip(sizes, families, strict=True)]
    assert slope(sizes, costs)[1] > 0.1
    assert slope(sizes, costs, families) == pytest.approx((2.0, 0.0), abs=1e-9)
    found = Curve("c", "cells", "s", sizes, tuple(Spread(c, c, c, 1) for c in costs), 2.0, families=families)
    assert found.last == pytest.approx(2.0)  # 192 to 384, not 256 to 384


def test_a_curve_that_bends_upwards_at_its_end_is_too_steep():
    costs = [*SIZES[:-1], SIZES[-2] * 2**1.5]
    found = Curve("c", "points", "s", SIZES, tuple(Spread(c, c, c, 1) for c in costs), 1.0)
    assert found.slope[0] < 1.0 + TOLERANCE < found.last
    assert found.too_steep


def test_a_theory_that_bends_upwards_allows_its_end_to():
    costs = tuple(Spread(c, c, c, 1) for c in [*SIZES[:-1], SIZES[-2] * 2**1.5])
    for last, too_steep in ((1.3, False), (1.1, True)):
        theory = (*SIZES[:-1], SIZES[-2] * 2**last)
        assert Curve("c", "points", "s", SIZES, costs, None, expected=theory).too_steep is too_steep


def test_a_theory_that_is_no_power_law_says_its_exponents_itself():
    formula = tuple(size + size**2 / 8 for size in SIZES)
    costs = tuple(Spread(3 * c, c, c, 1) for c in formula)
    found = Curve("c", "points", "s", SIZES, costs, None, expected=formula)
    assert found.allowed == pytest.approx((slope(SIZES, formula)[0], np.log2(formula[-1] / formula[-2])))
    assert found.allowed == pytest.approx((found.slope[0], found.last))
    assert not found.too_steep
    assert Curve("c", "points", "s", SIZES, costs, 1.0).too_steep  # its line alone would forbid the bend
    assert Curve("c", "points", "s", SIZES, costs, None).allowed is None


def test_the_plot_draws_a_theory_where_it_bends():
    formula = tuple(size + size**2 / 8 for size in SIZES)
    costs = tuple(Spread(3 * c, c, c, 1) for c in formula)
    assert theory_through_middle(Curve("c", "points", "s", SIZES, costs, None, expected=formula)) == pytest.approx(
        [cost.median for cost in costs]
    )
    straight = theory_through_middle(curve(2.0, 1.0))
    assert np.diff(np.log2(straight)) == pytest.approx([1.0] * 4)
    assert straight[2] == pytest.approx(curve(2.0, 1.0).costs[2].median)


@pytest.mark.parametrize(
    "sizes, costs", [((1, 2), (1, 2)), ((1, 2, 4), (1, 2)), ((1, 2, 4), (0, 1, 2)), ((2, 2, 2), (1, 2, 3))]
)
def test_what_has_no_slope_is_refused(sizes, costs):
    with pytest.raises(ValueError):
        slope(sizes, costs)
