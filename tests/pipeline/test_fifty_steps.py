"""Two processes train fifty steps of every stage on real meshes. Opt-in, about 40 minutes on two cores:

    FIFTY_STEPS=1 python -m pytest -n0 -s tests/pipeline/test_fifty_steps.py

At scale `gpu`, 48 meshes of the dataset `meshes`, batches of 8 (MAR with HR tokens directly, and DiT: 4). Others by the
variables SCALE (smoke, cpu or gpu), DATASET, OBJECTS, STEPS, BATCH and SMALL_BATCH; RUNS names a folder in which what
is finished stays. Every stage says what it took.
"""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.files import read_json
from core.identity import ROOT
from methods.registry import resolve
from pipeline import config
from pipeline.dag import Dag
from tests.methods.trained import STAGES

pytestmark = pytest.mark.skipif(not os.environ.get("FIFTY_STEPS"), reason="40 minutes on two cores: FIFTY_STEPS=1")
SCALE, DATASET = os.environ.get("SCALE", "gpu"), os.environ.get("DATASET", "meshes")
OBJECTS, STEPS, BATCH, SMALL_BATCH = (
    int(os.environ.get(name, usual))
    for name, usual in (("OBJECTS", 48), ("STEPS", 50), ("BATCH", 8), ("SMALL_BATCH", 4))
)
SCRIPT = Path(__file__).with_name("fifty_steps.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, Path]:
    """The folder of prepared meshes, and that of the runs."""
    folder = Path(os.environ.get("RUNS") or tmp_path_factory.mktemp("fifty")).resolve()
    few = {"train": OBJECTS, "val": 4, "test": 4}
    given = {"scale": SCALE, "dataset": DATASET, "datasets": {DATASET: {"limit": few}}}
    if DATASET == "procedural":
        given["datasets"] = {DATASET: {"counts": few}}
    (folder / "given.yaml").write_text(json.dumps(given))  # JSON is YAML
    line = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        f"{ROOT}/Snakefile",
        "--cores",
        "all",
        "--workflow-profile",
    ]
    line += [f"{ROOT}/profiles/default", "--configfile", "given.yaml", "--", "describe"]
    done = subprocess.run(line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder / Dag(config.load(given)).prepared, folder / "runs"


@functools.cache
def fit(setting: str, stage: str, prepared: Path, runs: Path) -> Path:
    """Train a stage in two processes, after what it needs; returns its folder."""
    plan = resolve(*setting.split("/"), SCALE)
    for need in plan.stage(stage).needs:
        fit(setting, need, prepared, runs)
    if plan.stage(stage).owner != plan.method.name:  # DiT's VAE is MAR-3D's
        setting = f"{plan.stage(stage).owner}/full"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(SCRIPT)]
    command += [str(STEPS), str(BATCH), str(SMALL_BATCH), SCALE, *setting.split("/"), stage, DATASET]
    done = subprocess.run([*command, str(prepared), str(runs)], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = runs.glob(f"{DATASET}/{SCALE}/stages/{setting.split('/')[0]}.{stage}-*/seed0/manifest.json")
    return max(found, key=lambda path: path.stat().st_mtime).parent


@pytest.mark.parametrize("setting, stage", STAGES)
def test_two_processes_train_fifty_steps(setting, stage, run):
    out = fit(setting, stage, *run)
    record = read_json(out / "manifest.json")
    losses = [json.loads(line)["loss"] for line in (out / "fit.jsonl").read_text().splitlines()]
    print(
        f"\n{stage} of {setting}: {record['step_seconds']:.2f} s a step, {record['samples_per_second']:.2f} samples/s,"
        f" waiting {record['data_wait_share']:.2%}, {record['peak_memory_mb']['host'] / 1024:.1f} GiB,"
        f" loss {losses[0]:.3f} -> {losses[-1]:.3f}"
    )
    assert (record["status"], record["processes"]) == ("ok", 2)
    assert len(losses) == STEPS and all(map(math.isfinite, losses))
