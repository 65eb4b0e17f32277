"""The default run as a whole: what it counts, and that plain ways give the same scores."""

import pytest

from benchmarks import table2, table2_objects
from benchmarks.measure import spread
from benchmarks.options import Options
from benchmarks.result import Equality, Row
from core.identity import ROOT
from core.yaml_files import read_yaml
from methods.contract import Failure, Mesh
from methods.mar3d import decoding
from methods.mar3d import method as mar3d
from methods.registry import resolve


def test_shared_stages_count_once():
    steps, objects = table2.counts(Options(quick=True))
    smoke = resolve("mar3d", "full", "smoke").params
    # Table 2's five settings train 2 VAEs; 3 MAR-LRs: with and without pyramid or rotation; and 4 MAR-HRs.
    each = {"vae": smoke["vae"], "mar_lr": smoke["mar_lr"], "mar_hr": smoke["mar_hr"]}
    assert steps == {name: n * each[name]["training"]["steps"] for name, n in zip(each, (2, 3, 4), strict=True)}
    config = read_yaml(ROOT / "config/config.yaml")
    assert objects == 5 * config["datasets"]["procedural"]["counts"]["test"]


def test_hours_are_steps_times_seconds_round_by_round():
    seconds, steps = {"vae": [1.0, 2.0, 9.0], "mar_lr": [10.0, 20.0]}, {"vae": 3600, "mar_lr": 360}
    found = table2.hours(seconds, steps)
    assert (found.median, found.n) == (pytest.approx(3.0), 2)  # 2 h and 4 h; a third round has one half only


def test_everything_plain_is_put_back():
    before = mar3d.sample, decoding.evaluate
    with table2_objects.plain_generation():
        assert mar3d.sample is not before[0] and decoding.evaluate is not before[1]
    assert (mar3d.sample, decoding.evaluate) == before


def test_a_mesh_beside_a_failure_is_no_equal_score():
    assert table2_objects.largest_difference([Failure("none")], [Failure("none")], [None]) == 0
    assert table2_objects.largest_difference([Mesh(None, None)], [Failure("none")], [None]) == float("inf")


def row(ours, plain, error, tolerance):
    return Row("part", "s", spread([ours]), "plain", spread([plain]), equality=Equality("scores", error, tolerance))


def test_the_whole_run_is_faster_only_by_what_is_worth_having_and_with_equal_parts():
    steps = {"vae": 100}

    def whole(plain, error=0.0):
        rows = [row(0.0, 0.0, 0.0, 1.0), row(1.0, 1.0, error, 1e-3), row(1.0, 1.0, 0.0, 1e-3)]
        return table2.whole({"vae": [1.0] * 5}, {"vae": [plain] * 5}, steps, 10, rows)

    assert whole(2.0).ratio.median == pytest.approx((200 + 20) / (100 + 20))
    assert whole(2.0).targets[0].reached
    assert not whole(1.05).targets[0].reached  # a gain below a tenth
    assert not whole(2.0, error=2e-3).equality.holds
