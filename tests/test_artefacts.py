"""From rows to tables with the workflow's own rules: every table, the exit status, what a person reads at the end.

Only the rules of the reports may run; the rows are made here, so that nothing is trained.
"""

import hashlib
import subprocess
import sys

import pandas as pd

from core.identity import ROOT
from core.randomness import numpy_rng
from pipeline import config
from pipeline.artefacts import ARTEFACTS
from pipeline.dag import Dag
from tests.reports.conftest import make_rows
from tests.test_pipeline import environment

TABLES = [artefact for artefact in ARTEFACTS.values() if artefact.paths[0].endswith(".csv")]


def write_rows(folder, failed=()):
    """Rows of every setting that the tables need at scale smoke; those in `failed` have nothing that succeeded."""
    smoke = Dag(config.load({"scale": "smoke"}))
    for path in {path for artefact in TABLES for path in smoke.rows(artefact.name)}:
        protocol, method, variant = path.split("/")[-4:-1]
        values = 0.5 + 0.1 * numpy_rng("artefacts", method, variant).normal(size=6)
        bad = range(6) if f"{method}/{variant}" in failed else ()
        rows = make_rows(method, variant, fscore=values, failed=bad, protocol=protocol)
        (folder / path).parent.mkdir(parents=True)
        rows.to_parquet(folder / path)


def run(folder, *targets):
    """Make `targets` with the rules of the tables alone."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores", "1"]
    allowed = ["--allowed-rules", *(artefact.name for artefact in TABLES)]
    profile = ["--workflow-profile", f"{ROOT}/profiles/default"]
    line = [*base, *profile, *allowed, "--config", "scale=smoke", "--", *targets]
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900)


def test_every_table_is_made_and_printed(tmp_path):
    write_rows(tmp_path)
    process = run(tmp_path, *(artefact.paths[0] for artefact in TABLES))
    assert process.returncode == 0, process.stdout + process.stderr
    for artefact in TABLES:
        assert all((tmp_path / path).is_file() for path in artefact.paths)
        assert (tmp_path / artefact.paths[0]).with_suffix(".md").read_text() in process.stderr
    claims = pd.read_csv(tmp_path / "reports/claims.csv").set_index("claim")
    assert claims.loc["mar_hr_helps", "n_objects"] == 6
    judged = claims.loc["pyramid_beats_twice_the_tokens"]
    assert (judged["protocol"], judged["n_objects"]) == ("vecset", 6)


def test_what_was_made_is_listed_with_its_hash(tmp_path):
    names = ["b.csv", "a.md"]
    for name in names:
        (tmp_path / name).write_text(name)
    line = [sys.executable, "-m", "reports", "all", "--files", *names, "--out", "all"]
    subprocess.run(line, cwd=tmp_path, env={**environment(), "PYTHONPATH": str(ROOT)}, check=True, timeout=100)
    hashes = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    listed = "".join(f"{digest}  {name}\n" for digest, name in zip(hashes, names, strict=True))
    assert (tmp_path / "all").read_text() == listed


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
