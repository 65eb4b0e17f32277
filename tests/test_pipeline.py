"""The smoke DAG end to end, from an empty directory: its table, a kill in the middle, a method that fails.

The workflow runs as a user runs it, in a process of its own; only the working directory is elsewhere.
"""

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from core.files import read_json
from core.identity import ROOT

TABLE = "reports/table2.csv"
SHORT = "table2={settings: [mar3d/full, mar3d/no_mar_hr], controls: [mean_shape/full]}"


def command(root, *config, target=TABLE):
    """The command line of a smoke run, as `make table2 SCALE=smoke` has it."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", f"{root}/Snakefile", "--cores", "2"]
    profile = ["--workflow-profile", f"{root}/profiles/default"]
    return [*base, *profile, "--config", "scale=smoke", *config, "--", target]


def environment():
    """The environment without what would choose another table or device."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")}
    return {**kept, "CUDA_VISIBLE_DEVICES": ""}


def run(root, folder, *config, target=TABLE):
    """Run the DAG of the checkout `root` in `folder` to its end; returns the finished process."""
    line = command(root, *config, target=target)
    return subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900)


def read(folder):
    """The table's rows by method/variant."""
    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        return {f"{row['method']}/{row['variant']}": row for row in csv.DictReader(file)}


def outputs(folder):
    """The bytes of the three files of the table."""
    return [(folder / "reports" / name).read_bytes() for name in ("table2.csv", "table2.md", "table2_by_category.csv")]


def jobs_of(process, *words):
    """Processes below `process` whose command line has these words."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            line = child.cmdline()
        except psutil.Error:
            continue
        if all(word in line for word in words):
            found.append(child)
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the repository, so that nobody edits the code while it runs."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("core", "data", "methods", "evaluation", "pipeline", "reports", "config", "profiles"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "recorded", "*.csv", "*.md")
        )
    shutil.copy(ROOT / "Snakefile", root)
    return root


@pytest.fixture(scope="module")
def whole(checkout, tmp_path_factory):
    """A directory in which the whole smoke run has ended without disturbance, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    process = run(checkout, folder)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder, process.stderr


def test_the_table_has_the_papers_rows_and_the_controls(whole):
    folder, printed = whole
    rows = read(folder)
    variants = ["full", "no_pyramid", "no_condition_augmentation", "no_mar_hr", "no_rotation_augmentation"]
    controls = ["ground_truth/full", "vae_ceiling/full", "mean_shape/full", "retrieval/full"]
    assert list(rows) == [f"mar3d/{variant}" for variant in variants] + controls
    for name, row in rows.items():
        assert row["status"] == "ok", name
        assert (row["n_objects"], row["n_seeds"], row["n_failed"]) == ("4", "1", "0")
        assert (row["protocol"], row["scale"], row["dataset"]) == ("v1", "smoke", "procedural")
        for metric in ("fscore", "cd", "nc"):
            low, mean, high = (float(row[metric + end]) for end in ("_low", "", "_high"))
            assert low <= mean <= high
            assert bool(row[f"{metric}_published"]) == name.startswith("mar3d/")
            assert bool(row[f"{metric}_difference"]) == (name != "mar3d/full")
        assert bool(row["control"]) == (name in controls)
    assert (folder / "reports/table2.md").read_text() in printed  # the last thing a person sees


def test_the_true_mesh_scores_the_floor_of_the_protocol(whole):
    row = read(whole[0])["ground_truth/full"]
    assert float(row["fscore"]) > 0.999
    assert float(row["cd"]) < 0.02
    assert float(row["nc"]) > 0.95


def test_stages_that_variants_share_were_trained_once(whole):
    names = sorted(path.name.split("-")[0] for path in (whole[0] / "runs/procedural/smoke/stages").iterdir())
    # vae: full, no_pyramid; mar_lr: these and no_rotation_augmentation; mar_hr: these and no_condition_augmentation
    assert [names.count(f"mar3d.{stage}") for stage in ("vae", "mar_lr", "mar_hr")] == [2, 3, 4]


def test_a_second_run_does_nothing(checkout, whole):
    folder, _ = whole
    before = outputs(folder)
    process = run(checkout, folder)
    assert process.returncode == 0
    assert "Nothing to be done" in process.stderr
    assert outputs(folder) == before


def test_a_run_killed_twice_ends_with_the_same_table(checkout, whole, tmp_path):
    config = [SHORT, "seeds=[0]"]
    folder = shutil.copytree(whole[0], tmp_path / "reference", symlinks=True)
    reference = run(checkout, folder, *config)  # the rows are there: only the shorter table is made
    assert reference.returncode == 0, reference.stderr
    disturbed = tmp_path / "disturbed"
    disturbed.mkdir()

    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command(checkout, *config), cwd=disturbed, env=environment(), stdout=log, stderr=log)
        killed = 0
        while first.poll() is None and killed < 2:
            for job in jobs_of(first, "methods", "fit", "vae" if killed == 0 else "mar_lr"):
                if job.cmdline()[1:3] == ["-m", "methods"] and _has_begun(disturbed, killed):
                    time.sleep(0.5)
                    if killed == 0:
                        job.kill()  # one job: its retry goes on
                    else:
                        for process in [first, *psutil.Process(first.pid).children(recursive=True)]:
                            process.kill()  # the whole run: no cleaning up, no unlocking
                    killed += 1
                    break
            time.sleep(0.05)
        assert killed == 2, (tmp_path / "log").read_text()
        first.wait()
    assert not (disturbed / TABLE).exists()
    process = run(checkout, disturbed, *config)
    assert process.returncode == 0, process.stdout + process.stderr
    assert outputs(disturbed) == outputs(folder)
    manifests = [
        read_json(path) for path in (disturbed / "runs/procedural/smoke/stages").glob("mar3d.*/seed0/manifest.json")
    ]
    resumes = {manifest["stage"]: manifest["resumes"] for manifest in manifests}
    assert (resumes["vae"], resumes["mar_lr"]) == (1, 1)


def _has_begun(folder, killed):
    stage = "mar3d.vae" if killed == 0 else "mar3d.mar_lr"
    return any((folder / "runs/procedural/smoke/stages").glob(f"{stage}-*/seed0/progress.json"))


BROKEN = """\
name: broken
label: Broken
summary: raises when it is fitted
entry: method:Broken
kind: method
stages:
  a: {reads: []}
  b: {reads: [], needs: [a]}
params: {}
variants:
  full: {}
"""
RAISES = """\
class Broken:
    def __init__(self, params): ...

    def fit(self, stage, data, *, upstream, out, seed):
        raise RuntimeError("the loss is not a number")
"""


@pytest.fixture
def with_broken_method(checkout, tmp_path):
    """A copy of the repository to which a method was added that raises: its folder, and nothing else."""
    root = shutil.copytree(checkout, tmp_path / "checkout")
    (root / "methods/broken").mkdir()
    (root / "methods/broken/config.yaml").write_text(BROKEN)
    (root / "methods/broken/method.py").write_text(RAISES)
    return root


def test_a_method_that_fails_is_a_row_and_does_not_stop_the_others(with_broken_method):
    root = with_broken_method
    process = run(root, root, "table2={settings: [template/full, broken/full], controls: []}")
    rows = read(root)
    assert rows["template/full"]["status"] == "ok"
    assert float(rows["template/full"]["fscore"]) > 0
    assert rows["broken/full"]["status"].startswith("failed: ")
    assert "the loss is not a number" in rows["broken/full"]["status"]
    assert rows["broken/full"]["n_failed"] == "4"
    assert rows["broken/full"]["fscore"] == ""
    assert process.returncode != 0
    assert "broken/full" in process.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (["scale=smok"], "there is no scale 'smok'"),
        (["dataset=nowhere"], "there is no dataset 'nowhere'"),
        (["sedes=[1]"], "there is no key 'sedes'"),
        (["table2={settings: [mar3d/ful]}"], "there is no variant of mar3d 'ful'"),
        (["evaluation={protocol: v0}"], "there is no protocol 'v0'"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(tmp_path, config, says):
    line = command(ROOT)[:-2] + config
    process = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    errors = [text for text in process.stderr.splitlines() if not text.startswith("Using workflow specific profile")]
    assert process.returncode != 0
    assert len(errors) == 1, process.stderr
    assert errors[0].startswith("error: ")
    assert says in errors[0]
    assert not Path(tmp_path / "runs").exists()


def test_a_misspelt_target_matches_no_rule(tmp_path):
    target = "runs/procedural/smoke/generated/mar3dd/full/seed0/generate.jsonl"
    process = run(ROOT, tmp_path, target=target)
    assert process.returncode != 0
    assert "MissingRuleException" in process.stderr


def test_two_runs_in_one_directory_do_not_meddle(tmp_path):
    from pipeline import lock

    assert lock.take(tmp_path / ".snakemake/run.lock", wait=False)
    process = run(ROOT, tmp_path)
    assert process.returncode != 0
    assert "another run is going on" in process.stderr
