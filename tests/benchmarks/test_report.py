"""The page says what the results say, and no more."""

import dataclasses
import math
import re

import pytest

from benchmarks import machine, older, report
from benchmarks.__main__ import PATHS
from benchmarks.growth import Curve
from benchmarks.measure import Spread
from benchmarks.result import Equality, Outcome, Row, Target, add_result, as_json, from_json, read_results
from core.errors import UserError
from core.files import read_json, write_json

COST = Spread(0.0123, 0.0121, 0.0129, 7)
ROW = Row(
    "a | b", "s", COST, "plain: all", Spread(0.5, 0.4, 0.6, 7), ratio=Spread(40.0, 39.0, 41.0, 7),
    equality=Equality("meshes", 1e-6, 1e-4), limit="70 %", targets=(Target("ratio", 50.0, 40.0),), tried="much",
)  # fmt: skip
COSTS = tuple(Spread(n, n, n, 1) for n in (1.0, 2.0, 4.0, 8.0, 16.0))
CURVE = Curve("all", "points", "s", (1, 2, 4, 8, 16), COSTS, 1.0, "each is on its own")
OUTCOME = Outcome("scoring", (ROW,), (CURVE,), ("a note",))


def entry(outcome=OUTCOME, busy=False, quick=False):
    about = {**machine.describe(threads=1), "busy": busy}
    rest = {"quick": quick, "scale": "cpu", "device": "cpu", "seconds": 3.0}
    return {"machine": about, **rest, "outcome": as_json(outcome)}


def test_a_missed_target_without_a_trial_says_so():
    untried, reached = (dataclasses.replace(ROW, tried="", targets=(Target("r", v, 40.0),)) for v in (50.0, 30.0))
    assert report.cells(untried)[-1] == "**nothing yet**"
    assert report.cells(reached)[-1] == ""


def test_results_come_back_from_json_as_they_were(tmp_path):
    write_json(tmp_path / "r.json", as_json(OUTCOME))
    assert from_json(read_json(tmp_path / "r.json")) == OUTCOME


def test_a_row_shows_every_number_with_spread_and_the_factor_that_is_missed():
    cells = dict(zip(report.HEADER, report.cells(ROW), strict=True))
    assert cells["ours"] == "12.3 [12.1, 12.9] ms, n = 7"
    assert cells["its cost"] == "0.5 [0.4, 0.6] s, n = 7"
    assert cells["ratio"] == "40 [39, 41] x, n = 7"
    assert cells["same?"] == "yes: meshes: 1.0e-06, at most 1e-04"
    assert cells["target"] == "ratio: at least 50"
    assert cells["reached"] == "**no** (40)"
    assert cells["missed by"] == "1.25x"


def test_a_missed_target_of_zero_has_no_factor():
    row = dataclasses.replace(ROW, targets=(Target("lost", 0.0, 2.0, "at most"),))
    assert dict(zip(report.HEADER, report.cells(row), strict=True))["missed by"] == "no factor"


def test_speed_does_not_count_where_results_differ():
    good = Target("ratio", 30.0, 40.0)
    for error, says in (
        (1.0, "does not count"),
        (math.nan, "does not count"),
        (math.inf, "does not count"),
        (0.0, "yes"),
    ):
        row = dataclasses.replace(ROW, targets=(good,), equality=Equality("meshes", error, 1e-4))
        assert says in dict(zip(report.HEADER, report.cells(row), strict=True))["reached"]


def test_a_ratio_whose_results_nobody_compared_is_no_plain_yes():
    row = dataclasses.replace(ROW, targets=(Target("ratio", 30.0, 40.0),), equality=None, not_compared="other weights")
    cells = dict(zip(report.HEADER, report.cells(row), strict=True))
    assert cells["same?"] == "not compared: other weights"
    assert cells["reached"] == "yes, results not compared (40)"
    alone = dataclasses.replace(row, ratio=None, peer_cost=None)
    assert report.cells(alone)[5] == ""


def test_what_several_rows_tried_is_told_once():
    page = report.page({"box": {"scoring": entry(dataclasses.replace(OUTCOME, rows=(ROW, ROW, ROW)))}}, ["scoring"])
    assert page.count("| much |") == 1
    assert page.count("| as above |") == 2


def test_a_curve_that_is_too_steep_says_why():
    steep = dataclasses.replace(CURVE, theory=0.5, tried="the cube takes over")
    assert report.growth_cells(steep)[-1] == "**no**: the cube takes over"
    assert report.growth_cells(dataclasses.replace(steep, tried=""))[-1] == "**no**: **nothing yet**"


def test_large_numbers_have_commas():
    assert report.cost(Spread(135_005_697.0, 1e8, 2e8, 3), "queries") == (
        "135,000,000 [100,000,000, 200,000,000] queries, n = 3"
    )
    assert report.digits(0.01234) == "0.0123"


def test_targets_of_both_senses():
    assert Target("t", 5.0, 4.0, "at most").reached
    assert Target("t", 5.0, 10.0, "at most").missed_by == 2.0
    assert Target("t", 5.0, None).reached is None
    assert Target("t", 5.0, math.nan).reached is None
    assert Target("t", 5.0, 0.0).missed_by == math.inf


def test_a_peer_that_is_not_there_has_its_row():
    row = Row("x", "s", None, "someone", peer_status="not installed")
    cells = dict(zip(report.HEADER, report.cells(row), strict=True))
    assert cells["its cost"] == "not installed"
    assert cells["ours"] == cells["ratio"] == ""


def test_the_page_before_the_first_run_says_so(tmp_path):
    report.write(tmp_path, list(PATHS))
    text = (tmp_path / "README.md").read_text()
    assert "Nothing has been measured yet" in text
    assert "| --- |" not in text


def test_the_page_has_what_was_measured_and_names_what_was_not(tmp_path):
    results = tmp_path / "results" / "box.json"
    add_result(results, "scoring", entry(busy=True, quick=True))
    add_result(results, "dag", entry(dataclasses.replace(OUTCOME, path="dag", curves=())))
    assert list(read_results(results)["paths"]) == ["scoring", "dag"]
    report.write(tmp_path, list(PATHS))
    text = (tmp_path / "README.md").read_text()
    assert "Nothing has been measured" not in text
    assert "a \\| b" in text  # a cell stays one cell
    assert "The machine was busy" in text
    assert re.search(r"load [\d.]+ before it, pace \d+ ms;", text)
    assert "Tiny sizes" in text
    assert text.count("Not measured yet.") == len(PATHS) - 2
    assert (tmp_path / "results" / "box-scoring.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "results" / "box-dag.png").exists()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in lines}
    assert widths == {len(names) + 1 for names in (report.HEADER, report.GROWTH, report.OVERVIEW)}


def test_rows_that_were_measured_with_an_input_stay_when_it_is_not_given(tmp_path):
    results = tmp_path / "results" / "box.json"
    missing = Row("real", "x", None, "dense", peer_status="not run", group="real")
    measured = [dataclasses.replace(ROW, what=f"real at {n}", group="real") for n in (129, 257)]
    clone = dataclasses.replace(ROW, what="step", peer="someone")
    first = entry(dataclasses.replace(OUTCOME, rows=(ROW, *measured, clone)))
    first["machine"] |= {"time": "2026-01-01 10:00", "git": {"commit": "abcdef0123", "dirty": False}}
    add_result(results, "scoring", first)
    without = (ROW, missing, Row("step", "s", None, "someone", peer_status="not installed"))
    for _ in range(2):  # a second run must not claim the rows for itself
        add_result(results, "scoring", entry(dataclasses.replace(OUTCOME, rows=without)))
        rows = from_json(read_results(results)["paths"]["scoring"]["outcome"]).rows
        assert [row.what for row in rows] == [ROW.what, "real at 129", "real at 257", "step"]
        assert rows[0].older == ""
        assert {row.older for row in rows[1:]} == {"2026-01-01 10:00 UTC, code abcdef0"}
    assert report.cells(rows[1])[0] == "real at 129 (of 2026-01-01 10:00 UTC, code abcdef0)"
    add_result(results, "scoring", entry(dataclasses.replace(OUTCOME, rows=without), quick=True))
    assert from_json(read_results(results)["paths"]["scoring"]["outcome"]).rows[1].cost is None


def test_the_page_begins_with_a_line_a_target():
    unknown = Row("on a GPU", "s", None, "plain", peer_status="no GPU here", targets=(Target("ratio", 3.0, None),))
    good = dataclasses.replace(ROW, targets=(Target("ratio", 30.0, 40.0), Target("time", 1.0, 0.5, "at most", "s")))
    counts = dataclasses.replace(good, unit="queries", targets=good.targets[:1])
    slow = entry(dataclasses.replace(OUTCOME, path="dag", rows=(good, counts)), busy=True)
    page = report.page(
        {"box": {"dag": slow, "scoring": entry(dataclasses.replace(OUTCOME, rows=(ROW, unknown)))}}, PATHS
    )
    lines = [line for line in page.split("## How to read")[0].splitlines() if line.startswith("| [")]
    assert lines == [
        "| [scoring](#scoring) | a \\| b | plain: all | ratio: at least 50 | 40 | **no** | 1.25x |",
        "| [scoring](#scoring) | on a GPU | plain | ratio: at least 3 |  | not measured |  |",
        "| [dag](#dag) | a \\| b | plain: all | ratio: at least 30 | 40 | yes, busy machine |  |",
        "| [dag](#dag) | a \\| b | plain: all | time: at most 1 s | 0.5 s | yes, busy machine |  |",
        "| [dag](#dag) | a \\| b | plain: all | ratio: at least 30 | 40 | yes |  |",  # counted, not timed
    ]


def test_quartiles_over_shapes_are_not_taken_for_rounds():
    cells = dict(zip(report.HEADER, report.cells(dataclasses.replace(ROW, over="shapes")), strict=True))
    assert cells["ratio"] == "40 [39, 41] x, n = 7 shapes"
    assert cells["ours"].endswith("n = 7 shapes")
    assert report.cost(Spread(5.0, 5.0, 5.0, 1), "queries", "shapes") == "5 queries, n = 1"  # the same for each


def test_minutes_are_those_of_all_paths_but_the_long_one():
    with_older = dataclasses.replace(OUTCOME, rows=(ROW, dataclasses.replace(ROW, older="2026-01-01 10:00 UTC")))
    runs = {
        "dag": ("2026-01-01 10:00", OUTCOME),
        "scoring": ("2026-01-02 10:00", with_older),
        "table2": ("2026-01-02 10:00", OUTCOME),
        "extraction_real": ("2026-01-03 10:00", OUTCOME),
    }
    entries = {name: {**entry(outcome), "run": run, "seconds": 60.0} for name, (run, outcome) in runs.items()}
    without = "3 paths in 3.0 minutes, added up over 2 runs; 1 row of earlier runs not counted.\n"
    assert without in report.page({"box": entries}, PATHS)
    entries["extraction_real"] |= {"seconds": 3600.0, "given": {"finished": "meshes/cpu"}}
    left = "`extraction_real` took 60 minutes more; 1 row of earlier runs not counted.\n"
    assert f"3 paths in 3.0 minutes, added up over 2 runs; {left}" in report.page({"box": entries}, PATHS)
    for name in ("dag", "scoring", "table2"):
        entries[name]["given"] = {"peers": "peers"}
    assert f"over 2 runs, given --peers peers; {left}" in report.page({"box": entries}, PATHS)
    assert "1 path in 1.0 minutes, given --peers peers.\n" in report.page({"box": {"dag": entries["dag"]}}, PATHS)


def test_a_row_that_stays_says_whether_its_machine_was_busy():
    about = {"time": "2026-01-01 10:00", "git": None}
    assert older.when({**about, "busy": True}) == "2026-01-01 10:00 UTC, busy machine"
    assert older.when({**about, "busy": False}) == older.when(about) == "2026-01-01 10:00 UTC"


def test_results_that_know_nothing_of_newer_fields_are_read():
    data = as_json(OUTCOME)
    for name in ("not_compared", "group", "older", "over"):
        del data["rows"][0][name]
    for name in ("families", "tried", "expected"):
        del data["curves"][0][name]
    assert from_json(data) == OUTCOME


def test_results_of_another_format_are_refused(tmp_path):
    write_json(tmp_path / "r.json", {"format": 0, "paths": {}})
    with pytest.raises(UserError, match="format 0"):
        read_results(tmp_path / "r.json")


def test_the_page_of_the_repository_is_what_its_results_say():
    from benchmarks.__main__ import HERE

    found = {path.stem: read_results(path)["paths"] for path in sorted((HERE / "results").glob("*.json"))}
    assert (HERE / "README.md").read_text() == report.page(found, list(PATHS))


def test_the_name_of_a_machine_is_a_file_name(monkeypatch):
    monkeypatch.setattr(machine, "processor", lambda: "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz")
    monkeypatch.setattr(machine, "cores", lambda: 2)
    assert machine.machine_name() == "intel-xeon-platinum-8481c-2-cores"
    assert machine.machine_name("cuda") == "intel-xeon-platinum-8481c-2-cores-cuda"
