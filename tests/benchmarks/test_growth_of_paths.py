"""No path grows faster than its theory. Opt-in, since it measures: on a machine that does nothing else, minutes.

GROWTH=1 OMP_NUM_THREADS=1 python -m pytest -n0 tests/benchmarks/test_growth_of_paths.py
"""

import importlib
import os

import pytest

from benchmarks.__main__ import PATHS
from benchmarks.growth import LEAST_SIZES, TOLERANCE, Curve
from benchmarks.measure import Spread
from benchmarks.options import Options

NO_CURVE = ("extraction_real", "table2")
"""The first counts at sizes of its own, the second is the sum of others."""
opt_in = pytest.mark.skipif(not os.environ.get("GROWTH"), reason="opt-in: GROWTH=1 on a machine that is free")


def told(curve):
    """What was measured and what the theory says, of all sizes and of the last interval."""
    both = (curve.slope[0], curve.last), curve.allowed
    measured, theory = (f"{whole:.2f}, last interval {last:.2f}" for whole, last in both)
    return f"{curve.label}: {measured}; theory {theory}; + {TOLERANCE}: {curve.tried}"


def test_a_failure_tells_both_exponents_of_the_theory():
    sizes = (1.0, 2.0, 4.0, 8.0, 16.0)
    costs = tuple(Spread(size**2, 0.0, 0.0, 1) for size in sizes)
    theory = (1.0, 2.0, 4.0, 8.0, 16.0 * 2**0.25)
    curve = Curve("all", "points", "s", sizes, costs, None, expected=theory, tried="much")
    assert told(curve) == "all: 2.00, last interval 2.00; theory 1.05, last interval 1.25; + 0.3: much"


@opt_in
@pytest.mark.parametrize("name", [name for name in PATHS if name not in NO_CURVE])
def test_no_curve_is_steeper_than_its_theory(name):
    curves = importlib.import_module(f"benchmarks.{name}").growth(Options())
    assert any(curve.allowed for curve in curves)
    for curve in curves:
        assert len(curve.sizes) >= LEAST_SIZES
        assert not curve.too_steep, told(curve)
