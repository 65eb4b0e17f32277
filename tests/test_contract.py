"""What every method must do, tried on every method found: fit on tiny data at the smoke scale, then generate.

    pytest tests/test_contract.py -k mar3d

A method that fails here says in the assertion what is missing. Fits are made once per session and shared.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.files import read_json
from core.identity import ROOT
from core.randomness import numpy_rng
from data.store import Sample, Split, evaluation_views
from methods.contract import TIMED, Failure, Generator, Mesh, PreparedData
from methods.generate import generate, run_batch
from methods.meshes import fault, read_ply
from methods.places import stage_folder
from methods.registry import load_methods, resolve
from methods.run import fit, make_method
from methods.specs import EXTERNAL, Plan

SCALE = "smoke"
# External methods have meshes of their own data only: tests/methods/test_external.py tries their class.
METHODS = sorted(name for name, spec in load_methods().items() if spec.code != EXTERNAL)
VARIANTS = [(method, variant) for method in METHODS for variant in load_methods()[method].variants]

# The command line, made easy to kill in the middle. eager: saves the state of a training at every step, so that a kill
# within seconds leaves something to resume from. waiting: stands still once the first batch of meshes is finished.
KILLABLE = """
import sys
from core.errors import run_cli
from methods.__main__ import main
how = sys.argv.pop(1)
if how == "eager":
    import methods.training.loop
    methods.training.loop.train.__kwdefaults__["save_every"] = 0.0
if how == "waiting":
    import time
    import methods.generate
    write = methods.generate.write_text
    def write_and_wait(path, text):
        write(path, text)
        time.sleep(600 if path.name == "00000.jsonl" else 0)
    methods.generate.write_text = write_and_wait
run_cli(main)
"""


@pytest.fixture(scope="session")
def data(prepared: Path) -> PreparedData:
    return PreparedData(prepared, "procedural", SCALE)


@pytest.fixture(scope="session")
def samples(prepared: Path) -> list[Sample]:
    split = Split(prepared, "test")
    return [split.sample(i, v) for i, v in evaluation_views(split, 1)]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As the command line does it: the number of threads is part of what makes two runs equal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def stages(data: PreparedData, runs: Path) -> Callable[[Plan], dict[str, Path]]:
    """Fits a plan's stages, each once per session; returns their folders by name."""

    def fit_all(plan: Plan) -> dict[str, Path]:
        folders = {}
        for stage in plan.stages:
            out = stage_folder(runs, data.dataset, SCALE, stage, 0)
            if not (out / "manifest.json").exists():
                fit(plan.method.name, plan.variant.name, stage.name, data, seed=0, runs=runs, threads=1)
            manifest = read_json(out / "manifest.json")
            assert manifest["status"] == "ok", f"fitting {stage.folder_name} failed: {manifest['reason']}"
            folders[stage.name] = out
        return folders

    return fit_all


def plan_of(method: str) -> Plan:
    return resolve(method, load_methods()[method].first_variant, SCALE)


def load(plan: Plan, folders: dict[str, Path]) -> Generator:
    return make_method(plan.method, plan.params).load(folders, "cpu")


def meshes_of(generator: Generator, plan: Plan, samples: list[Sample], seed: int = 0) -> list[Mesh | Failure]:
    return run_batch(generator, samples, ("procedural", SCALE, plan.method.name, plan.variant.name, seed), plan)


def same(a: Mesh | Failure, b: Mesh | Failure) -> bool:
    if isinstance(a, Failure) or isinstance(b, Failure):
        return a == b
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


def test_listing_is_torch_free():
    code = "import sys, runpy; sys.argv[1:] = ['list']; runpy.run_module('methods', run_name='x').get('list_methods')()"
    code += "; heavy = {'torch', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_stage_leaves_weights_and_a_manifest(method, stages):
    for name, folder in stages(plan_of(method)).items():
        manifest = read_json(folder / "manifest.json")
        assert "weights.safetensors" in manifest["files"], f"stage {name} must write weights.safetensors"
        records = {"fit.jsonl", "tensorboard", "manifest.json", "done.json"}
        records |= {"measured.json", "costs.json", "speed.json"}
        told = {*manifest["files"], *manifest.get("caches", ())}
        left = {path.name for path in folder.iterdir()} - records - told
        assert not left, f"stage {name} leaves {left} behind"


@pytest.mark.parametrize("method", METHODS)
def test_a_few_steps_lower_the_loss(method, stages):
    for name, folder in stages(plan_of(method)).items():
        if not (folder / "fit.jsonl").exists():
            continue  # nothing is learnt by descent in this stage
        losses = [json.loads(line)["loss"] for line in (folder / "fit.jsonl").read_text().splitlines()]
        third = max(1, len(losses) // 3)  # medians: the variational bound of a diffusion loss has rare spikes
        assert np.median(losses[-third:]) < np.median(losses[:third]), f"stage {name} does not learn: {losses}"


@pytest.mark.parametrize("method", METHODS)
def test_meshes_are_sound_and_timed(method, stages, samples):
    plan = plan_of(method)
    results = meshes_of(load(plan, stages(plan)), plan, samples)
    assert len(results) == len(samples)
    for result in results:
        assert isinstance(result, Mesh), f"no mesh: {result.reason}"
        assert fault(result) is None
        assert set(result.seconds) <= set(TIMED)


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_mesh_also_reloaded(method, stages, samples):
    plan = plan_of(method)
    folders = stages(plan)
    generator = load(plan, folders)
    first, again = meshes_of(generator, plan, samples), meshes_of(generator, plan, samples)
    reloaded = meshes_of(load(plan, folders), plan, samples)
    for a, b, c in zip(first, again, reloaded, strict=True):
        assert same(a, b), "the same generators gave another mesh: is there randomness that does not come from rngs?"
        assert same(a, c), "a reloaded method gives another mesh: is all of its state in the weights?"


@pytest.mark.parametrize("method", METHODS)
def test_other_seed_other_mesh(method, stages, samples):
    plan = plan_of(method)
    generator = load(plan, stages(plan))
    a, b = (meshes_of(generator, plan, samples[:1], seed)[0] for seed in (0, 1))
    if plan.method.stochastic:
        assert not same(a, b), "another seed gives the same mesh; use rngs, or say stochastic: false in config.yaml"
    else:
        assert same(a, b), "another seed gives another mesh; say stochastic: true in config.yaml"


@pytest.mark.parametrize("method", METHODS)
def test_a_mesh_does_not_depend_on_its_place_in_the_batch(method, stages, samples):
    plan = plan_of(method)
    generator = load(plan, stages(plan))
    forwards, backwards = meshes_of(generator, plan, samples), meshes_of(generator, plan, samples[::-1])[::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert same(a, b), "the order within the batch changes a mesh: draw from each image's own generator"


@pytest.mark.parametrize("method", METHODS)
def test_ground_truth_is_handed_only_to_whom_it_is_declared(method, samples):
    plan, handed = plan_of(method), []

    class Spy:
        def generate(self, images: np.ndarray, *, rngs: Any, ground_truth: Any = None) -> list[Failure]:
            assert images.dtype == np.uint8 and images.shape == (len(samples), 32, 32, 4)
            assert len(rngs) == len(samples)
            handed.append(ground_truth)
            return [Failure("only looking")] * len(images)

    run_batch(Spy(), samples, ("spy",), plan)
    assert handed == [samples if plan.method.reads_ground_truth else None]
    assert plan.method.kind == "control" or not plan.method.reads_ground_truth


@pytest.mark.parametrize(("method", "variant"), VARIANTS)
def test_every_variant_runs(method, variant, stages, samples):
    plan = resolve(method, variant, SCALE)
    if plan.params.get("extraction", {}).get("surface") == "flexicubes":
        pytest.importorskip("kaolin.ops.conversions")  # what comes of it without: tests/methods/test_flexicubes.py
    (result,) = meshes_of(load(plan, stages(plan)), plan, samples[:1])
    assert isinstance(result, Mesh), f"no mesh: {result.reason}"


# ---------------------------------------------------------------- killed and resumed


def command(how: str, *arguments: str | Path) -> subprocess.Popen:
    """The command line in a process of its own; how: plain, eager or waiting."""
    words = [sys.executable, "-c", KILLABLE, how, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def kill_when(process: subprocess.Popen, seen: Callable[[], bool], limit: float = 30.0) -> bool:
    """SIGKILL the process as soon as `seen()`, or after `limit` seconds; False if it was done before that."""
    end = time.monotonic() + limit
    while process.poll() is None and not seen() and time.monotonic() < end:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def finish(process: subprocess.Popen) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def common(plan: Plan, data: PreparedData, runs: Path) -> list[str | Path]:
    names = ["--method", plan.method.name, "--variant", plan.variant.name, "--scale", SCALE, "--seed", "0"]
    return [*names, "--dataset", data.dataset, "--prepared", data.folder, "--runs", runs]


@pytest.mark.parametrize(
    "method", [name for name in METHODS if resolve(name, plan_of(name).variant.name, SCALE).stages]
)
def test_a_killed_fit_resumes_to_the_same_weights(method, stages, data, tmp_path_factory):
    plan = plan_of(method)
    if all(stage.owner != method for stage in plan.stages):
        pytest.skip("its stages are borrowed: their owner is tried")
    whole = stages(plan)
    runs = tmp_path_factory.mktemp("killed")
    for stage in plan.stages:
        out = stage_folder(runs, data.dataset, SCALE, stage, 0)
        if stage.owner != method:
            shutil.copytree(whole[stage.name], out)
            continue
        arguments = ("fit", "--stage", stage.name, *common(plan, data, runs))
        trained = (whole[stage.name] / "fit.jsonl").exists()
        resume = out / "resume"
        killed = kill_when(
            command("eager" if trained else "plain", *arguments), lambda resume=resume: any(resume.glob("[!.]*"))
        )
        assert not trained or (killed and resume.exists()), f"stage {stage.name} left nothing to resume from"
        errors = finish(command("plain", *arguments))
        manifest = read_json(out / "manifest.json")
        assert not trained or (manifest["resumes"] == 1 and "resuming" in errors)
        expected = read_json(whole[stage.name] / "manifest.json")["files"]
        assert manifest["files"] == expected, f"stage {stage.name}: a killed and resumed fit ends with other weights"


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_generation_resumes_to_the_same_meshes(method, stages, data, runs, tmp_path):
    plan = plan_of(method)
    stages(plan)
    options = dict(seed=0, runs=runs, threads=1, batch=1)
    generate(method, plan.variant.name, data, out=tmp_path / "whole", **options)
    arguments = ("generate", *common(plan, data, runs), "--out", tmp_path / "killed", "--batch", "1")
    first = tmp_path / "killed" / "resume" / "00000.jsonl"
    killed = kill_when(command("waiting", *arguments), first.exists, limit=300.0)
    assert killed and first.exists(), "it ended before its first batch was kept"
    assert "resuming with 1 finished batches" in finish(command("plain", *arguments))
    assert read_json(tmp_path / "killed" / "manifest.json")["resumes"] == 1
    whole, resumed = (
        [json.loads(line) for line in (tmp_path / name / "generate.jsonl").read_text().splitlines()]
        for name in ("whole", "killed")
    )
    assert len(whole) > 1, "one batch alone cannot be killed in the middle"
    assert [row | {"seconds": {}} for row in whole] == [row | {"seconds": {}} for row in resumed]
    for row in whole:
        a, b = (read_ply(tmp_path / name / row["mesh"]) for name in ("whole", "killed"))
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])


def test_random_streams_differ_between_objects():
    assert (
        numpy_rng("d", SCALE, "m", "v", 0, "a", 1, "generate").random()
        != numpy_rng("d", SCALE, "m", "v", 0, "a", 2, "generate").random()
    )
