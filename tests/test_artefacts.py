"""`reports/all` from rows: every table, its page, the exit status, and what a person reads at the end.

Only the rules of the reports may run; the rows are made here, so that nothing is trained.
"""

import hashlib
import subprocess
import sys

import pandas as pd
import pytest

from core.identity import ROOT
from core.randomness import numpy_rng
from pipeline import config
from pipeline.artefacts import ARTEFACTS, EVERYTHING
from pipeline.dag import Dag
from tests.reports.conftest import make_rows
from tests.test_pipeline import environment

TABLES = [artefact for artefact in ARTEFACTS.values() if artefact.paths[0].endswith(".csv")]


def write_rows(folder, failed=()):
    """Rows of every setting that the tables need at scale smoke; those in `failed` have nothing that succeeded."""
    smoke = Dag(config.load({"scale": "smoke"}))
    for path in {path for artefact in TABLES for path in smoke.rows(artefact.name)}:
        method, variant = path.split("/")[-3:-1]
        values = 0.5 + 0.1 * numpy_rng("artefacts", method, variant).normal(size=6)
        rows = make_rows(method, variant, fscore=values, failed=range(6) if f"{method}/{variant}" in failed else ())
        (folder / path).parent.mkdir(parents=True)
        rows.to_parquet(folder / path)


def run(folder, target):
    """Make `target` with the rules of the tables alone."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores", "1"]
    allowed = ["--allowed-rules", *(artefact.name for artefact in TABLES), "everything"]
    profile = ["--workflow-profile", f"{ROOT}/profiles/default"]
    line = [*base, *profile, *allowed, "--config", "scale=smoke", "--", target]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900)


@pytest.mark.skipif(len(TABLES) < len(ARTEFACTS), reason="figures need meshes; the smoke run makes them")
def test_everything_is_made_listed_and_printed(tmp_path):
    write_rows(tmp_path)
    process = run(tmp_path, EVERYTHING)
    assert process.returncode == 0, process.stdout + process.stderr
    for line in (tmp_path / EVERYTHING).read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    pages = [(tmp_path / artefact.paths[0]).with_suffix(".md").read_text() for artefact in TABLES]
    assert all(page in process.stderr for page in pages)
    claims = pd.read_csv(tmp_path / "reports/claims.csv").set_index("claim")
    assert claims.loc["mar_hr_helps", "n_objects"] == 6


def test_a_table_that_was_not_asked_for_is_not_made_and_a_failed_setting_is_named(tmp_path):
    write_rows(tmp_path, failed=["mar3d/no_pyramid"])
    process = run(tmp_path, "reports/claims.md")
    assert process.returncode != 0
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["claims.csv", "claims.md"]
    last = process.stderr.splitlines()[-1]
    assert "pyramid_helps_generation: failed: mar3d/no_pyramid: failed: ValueError: no surface" in last
    claims = pd.read_csv(tmp_path / "reports/claims.csv").set_index("claim")
    assert claims.loc["pyramid_helps_generation", "verdict"] == "not run"
    assert claims.loc["mar_hr_helps", "verdict"] == "inconclusive"
