"""Every path runs from end to end at tiny sizes, and what it returns makes a section of the page."""

import importlib

import pytest

from benchmarks import machine, report
from benchmarks.growth import LEAST_SIZES
from benchmarks.options import Options
from benchmarks.result import as_json, from_json
from core.files import read_json, write_json

MEASURED = ("decoder_queries", "mar_sampling", "preparation", "scoring", "table2")


@pytest.mark.parametrize("name", MEASURED)
def test_a_path_runs_at_tiny_sizes(name, tmp_path):
    outcome = importlib.import_module(f"benchmarks.{name}").run(Options(quick=True))
    assert outcome.path == name
    assert all(row.cost is not None or row.peer_status for row in outcome.rows)
    assert all(row.equality.holds for row in outcome.rows if row.equality)
    assert all(len(curve.sizes) >= LEAST_SIZES for curve in outcome.curves)
    write_json(tmp_path / "outcome.json", as_json(outcome))
    written = read_json(tmp_path / "outcome.json")
    assert from_json(written) == outcome
    entry = {"machine": machine.describe(threads=1), "quick": True, "scale": "cpu", "device": "cpu", "seconds": 1.0}
    page = report.page({"box": {name: {**entry, "outcome": written}}}, [name])
    assert all(row.what in page for row in outcome.rows)


def test_planning_is_told_beside_snakemakes_start(monkeypatch):
    from benchmarks import dag

    monkeypatch.setattr(dag, "dry_run", lambda _: {"prepare": 3, "fit": 2, "total": 5})
    monkeypatch.setattr(dag, "start_alone", lambda: None)
    outcome = dag.run(Options(quick=True))
    assert "Snakemake's start with nothing to plan, 2 times" in outcome.rows[0].limit
    assert "each of 10 jobs" in outcome.rows[0].limit
    assert len(outcome.rows) == 2 + len(dag.STARTS)
    assert not any(
        target.measured for row in outcome.rows for target in row.targets if target.name == "imports of torch"
    )
    assert len(outcome.curves[0].sizes) >= LEAST_SIZES


def test_a_dry_run_is_planned_and_its_start_alone_too():
    from benchmarks import dag

    jobs = dag.dry_run(dag.config_of(2, 1, "procedural", 100))
    assert jobs["total"] == sum(count for name, count in jobs.items() if name != "total")
    dag.start_alone()
