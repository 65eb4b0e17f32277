"""docs/add_a_method.md works as it is written: its boxes are run, in order, in a copy of the repository."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.identity import ROOT

PAGE = ROOT / "docs/add_a_method.md"
COPIED = ("core", "data", "methods", "evaluation", "pipeline", "reports", "config", "profiles", "tests", "docs")


def boxes() -> list[tuple[str, str]]:
    """Language and text of each fenced box."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> tuple[Path, list[str]]:
    """A copy of the repository in which the page was followed, and what its commands printed."""
    root = tmp_path_factory.mktemp("clone") / "repository"
    skipped = shutil.ignore_patterns("__pycache__", "recorded", "*.csv")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=skipped)
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SNAKEMAKE", "PYTEST"))}
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    environment = {**kept, "PATH": path, "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    printed = []
    for language, text in boxes():
        line = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else ["git", "apply", "-"]
        given = None if language == "sh" else text
        done = subprocess.run(line, cwd=root, env=environment, input=given, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout + done.stderr)
    return root, printed


def test_the_page_is_about_twenty_lines_of_change_and_every_box_is_run():
    languages = [language for language, _ in boxes()]
    assert set(languages) == {"sh", "diff"} and languages.count("diff") == 1
    assert len(languages) == PAGE.read_text(encoding="utf-8").count("```") / 2
    (change,) = (text for language, text in boxes() if language == "diff")
    assert 15 <= sum(line[0] == "+" and line[:3] != "+++" for line in change.splitlines()) <= 25


def test_following_the_page_gives_a_row(followed):
    with (followed[0] / "reports/table2.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["extrusion", "ground_truth", "mean_shape"]
    mine = rows["extrusion"]
    assert (mine["status"], mine["n_objects"], mine["n_failed"]) == ("ok", "4", "0")
    assert mine["setting"] == "Extruded silhouette" and mine["control"] == ""
    assert 0 < float(mine["fscore_low"]) <= float(mine["fscore"]) <= float(mine["fscore_high"]) <= 1
    assert float(mine["cd"]) < float(rows["mean_shape"]["cd"])  # it looks at the image


def test_the_contract_was_tried_on_it(followed):
    text = "".join(followed[1])
    assert re.search(r"\b\d+ passed", text) and "Extruded silhouette (extrusion/full, scale smoke)" in text
    assert not (ROOT / "methods/extrusion").exists()  # only the copy was changed
