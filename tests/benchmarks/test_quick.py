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


def test_a_dry_run_is_planned_and_its_start_alone_too():
    from benchmarks import dag

    jobs = dag.dry_run(dag.config_of(2, 1, "procedural", 100))
    assert jobs["total"] == sum(count for name, count in jobs.items() if name != "total")
    dag.start_alone()
