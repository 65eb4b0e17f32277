"""No path grows faster than its theory. Opt-in, since it measures: on a machine that does nothing else, minutes.

GROWTH=1 OMP_NUM_THREADS=1 python -m pytest -n0 tests/benchmarks/test_growth_of_paths.py
"""

import importlib
import os

import pytest

from benchmarks.__main__ import PATHS
from benchmarks.growth import LEAST_SIZES, TOLERANCE
from benchmarks.options import Options

NO_CURVE = ("extraction_real", "table2")
"""The first counts at sizes of its own, the second is the sum of others."""

pytestmark = pytest.mark.skipif(not os.environ.get("GROWTH"), reason="opt-in: GROWTH=1 on a machine that is free")


@pytest.mark.parametrize("name", [name for name in PATHS if name not in NO_CURVE])
def test_no_curve_is_steeper_than_its_theory(name):
    curves = importlib.import_module(f"benchmarks.{name}").growth(Options())
    assert any(curve.theory is not None for curve in curves)
    for curve in curves:
        assert len(curve.sizes) >= LEAST_SIZES
        found = f"{curve.label}: {curve.slope[0]:.2f}, last interval {curve.last:.2f}"
        assert not curve.too_steep, f"{found}, theory {curve.theory} + {TOLERANCE}: {curve.tried}"
