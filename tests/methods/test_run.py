"""The harness: failures become records, finished work survives, manifests are what they say.

One file, though a long one: every test turns the same small method, defined at its head, another way.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._inductor.exc import InductorError

from core.errors import UserError
from core.files import read_json
from core.identity import ROOT
from data.store import Split, evaluation_views
from methods import generate as generation
from methods import manifest, run
from methods.contract import Failure, Mesh, PreparedData
from methods.manifest import read_stage
from methods.meshes import fault, file_name
from methods.places import stage_folder
from methods.registry import resolve
from methods.specs import HARDWARE
from methods.template.method import SilhouetteEllipsoid

TRIANGLE = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))


@pytest.fixture
def data(ellipsoids) -> PreparedData:
    return PreparedData(ellipsoids, "ellipsoids", "smoke")


def use(monkeypatch, **overrides) -> None:
    """Make the template's class behave otherwise: `fit` or `generate` as given."""
    broken = type("Broken", (SilhouetteEllipsoid,), overrides)
    for module in (run, generation):
        monkeypatch.setattr(module, "make_method", lambda spec, params: broken(params))


def fit(data: PreparedData, runs: Path) -> dict:
    return read_json(run.fit("template", "full", "depth", data, seed=0, runs=runs, threads=1) / "manifest.json")


def generate(data: PreparedData, runs: Path, **options) -> list[dict]:
    options = {"seed": 0, "runs": runs, "out": runs / "out", "threads": 1, "batch": 2, **options}
    path = generation.generate("template", "full", data, **options)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_finished_stage_survives_the_loss_of_its_manifest(data, tmp_path, monkeypatch):
    # A killed workflow deletes the declared outputs of jobs that it did not see end.
    manifest = fit(data, tmp_path)
    (path,) = tmp_path.rglob("manifest.json")
    path.unlink()
    use(monkeypatch, fit=lambda *_, **__: pytest.fail("fitted again"))
    assert fit(data, tmp_path) == manifest
    (weights,) = tmp_path.rglob("weights.safetensors")
    weights.write_bytes(b"torn")
    path.unlink()
    with pytest.raises(BaseException, match="fitted again"):
        fit(data, tmp_path)


def test_a_stage_is_whole_without_its_caches(data, tmp_path, monkeypatch):
    def keeping(self, stage, data, *, upstream, out, seed):
        SilhouetteEllipsoid.fit(self, stage, data, upstream=upstream, out=out, seed=seed)
        (out / "kept.bin").write_bytes(b"follows from the weights")
        (out / "measured.json").write_text('{"caches": ["kept.bin"]}')

    use(monkeypatch, fit=keeping)
    manifest = fit(data, tmp_path)
    assert (list(manifest["files"]), manifest["caches"]) == (["weights.safetensors"], ["kept.bin"])
    (path,) = tmp_path.rglob("manifest.json")
    (path.parent / "kept.bin").unlink()
    assert read_stage(path.parent) == manifest
    path.unlink()
    use(monkeypatch, fit=lambda *_, **__: pytest.fail("fitted again"))
    assert fit(data, tmp_path) == manifest
    assert {row["status"] for row in generate(data, tmp_path)} == {"ok"}


def test_manifest_says_what_made_the_stage(data, tmp_path):
    manifest = fit(data, tmp_path)
    stage = resolve("template", "full", "smoke").stages[0]
    assert manifest["status"] == "ok" and manifest["reason"] is None and manifest["resumes"] == 0
    assert (manifest["key"], manifest["params"]) == (stage.key, stage.params)
    assert {"git", "source", "packages", "device", "dtype", "threads", "seconds", "peak_memory_mb"} <= set(manifest)
    if manifest["device"]["kind"] == "cpu":  # of processors neither is known
        assert manifest["energy_joules"] is None and manifest["utilisation"] is None
    out = stage_folder(tmp_path, "ellipsoids", "smoke", stage, 0)
    assert sorted(path.name for path in out.iterdir()) == ["done.json", "manifest.json", "weights.safetensors"]
    assert read_stage(out) == manifest


def test_torn_weights_are_noticed(data, tmp_path):
    fit(data, tmp_path)
    (weights,) = tmp_path.rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="not the file that its manifest describes"):
        generate(data, tmp_path)


def test_a_missing_stage_is_one_sentence(data, tmp_path):
    with pytest.raises(UserError, match="fit this stage first"):
        generate(data, tmp_path)


def explode(self, *args, **kwargs):
    raise ValueError("the loss became nan\nmore lines")


def test_a_failing_fit_leaves_its_reason_and_failed_rows(data, tmp_path, monkeypatch, capsys):
    use(monkeypatch, fit=explode)
    manifest = fit(data, tmp_path)
    assert manifest["status"] == "failed"
    assert manifest["reason"] == "fitting depth: ValueError: the loss became nan"
    assert "Traceback" in capsys.readouterr().err
    rows = generate(data, tmp_path)
    assert len(rows) == 4 and {row["status"] for row in rows} == {"failed"}
    assert rows[0]["reason"] == "stage depth failed (fitting depth: ValueError: the loss became nan)"
    assert rows[0]["mesh"] is None


def test_a_killed_fit_keeps_what_it_saved(data, tmp_path, monkeypatch):
    def interrupted(self, stage, data, *, upstream, out, seed):
        (out / "resume").mkdir(exist_ok=True)
        (out / "resume" / "state").touch()
        raise KeyboardInterrupt

    options = {"seed": 0, "runs": tmp_path, "threads": 1}
    with monkeypatch.context() as patch:
        use(patch, fit=interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(data, tmp_path)
        out = run.fit("template", "full", "depth", data, killed="killed twice", **options)  # `fit` is not called
    manifest = read_json(out / "manifest.json")
    assert (manifest["status"], manifest["reason"]) == ("failed", "fitting depth: killed twice")
    assert (out / "resume" / "state").exists()
    (out / "manifest.json").unlink()
    assert fit(data, tmp_path)["status"] == "ok"


def test_the_seconds_of_all_starts_count(data, tmp_path, monkeypatch):
    def interrupted(self, *_, **__):
        time.sleep(0.2)
        raise KeyboardInterrupt

    for work, name in ((fit, "fit"), (generate, "generate")):
        with monkeypatch.context() as patch:
            use(patch, **{name: interrupted})
            for _ in range(2):
                with pytest.raises(KeyboardInterrupt):
                    work(data, tmp_path)
        work(data, tmp_path)  # takes a tenth of that
        (path,) = (tmp_path / "out" if name == "generate" else tmp_path).rglob("manifest.json")
        assert read_json(path)["seconds"] >= 0.4


def test_a_killed_generation_keeps_what_it_made(data, tmp_path, monkeypatch):
    fit(data, tmp_path)
    original, calls = SilhouetteEllipsoid.generate, []

    def interrupted(self, images, *, rngs, ground_truth=None):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, images, rngs=rngs)

    use(monkeypatch, generate=interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(data, tmp_path)
    rows = generate(data, tmp_path, killed="killed twice")
    assert calls == [2, 2]
    assert [(row["status"], row["reason"]) for row in rows] == [("ok", None)] * 2 + [
        ("failed", "generating: killed twice")
    ] * 2
    assert read_json(tmp_path / "out" / "manifest.json")["status"] == "failed"


FULL, BROKEN = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), torch.AcceleratorError("CUDA error")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, UserError("mend it"), FULL, BROKEN], ids=repr)
def test_what_is_not_the_methods_fault_is_not_swallowed(data, tmp_path, monkeypatch, error):
    def interrupted(self, *args, **kwargs):
        raise error

    use(monkeypatch, fit=interrupted)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        fit(data, tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_full_gpu_ends_a_fit_with_what_to_lower(data, tmp_path, monkeypatch):
    def full(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    use(monkeypatch, fit=full)
    with pytest.raises(torch.OutOfMemoryError) as error:
        fit(data, tmp_path)
    printed = "".join(traceback.format_exception(error.value))
    assert "set hardware.device_batch to a part of the batch" in printed and "hardware.memory_gb" in printed


def test_a_compiler_that_is_missing_is_the_users_to_mend(data, tmp_path, monkeypatch):
    def compiling(self, *args, **kwargs):
        raise InductorError(
            RuntimeError("Failed to find C compiler. Please specify via CC environment variable."), None
        )

    use(monkeypatch, fit=compiling)
    with pytest.raises(UserError, match="install gcc"):
        fit(data, tmp_path)


def test_nothing_is_fitted_with_a_card_that_torch_cannot_use(data, tmp_path, monkeypatch):
    use(monkeypatch, fit=lambda *_, **__: pytest.fail("fitted on a CPU"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    def init():
        raise RuntimeError("the NVIDIA driver is too old")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(UserError, match="driver is too old"):
        fit(data, tmp_path)


@pytest.mark.parametrize("error", [FULL, BROKEN], ids=repr)
@pytest.mark.parametrize("part", ["load", "generate"])
def test_a_gpu_that_fails_or_is_full_with_one_object_ends_a_generation_and_keeps_what_it_made(
    data, tmp_path, monkeypatch, part, error
):
    fit(data, tmp_path)
    original, calls = getattr(SilhouetteEllipsoid, part), []

    def faulty(self, *args, **kwargs):
        calls.append(1)
        if part == "load" or len(calls) == 3:
            raise error
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        use(patch, **{part: faulty})
        with pytest.raises(type(error)):
            generate(data, tmp_path, batch=1)
    assert not (tmp_path / "out" / "generate.jsonl").exists()
    kept = len(list((tmp_path / "out" / "resume").glob("*.jsonl")))
    assert kept == (0 if part == "load" else 2)
    assert {row["status"] for row in generate(data, tmp_path, batch=1)} == {"ok"}


def test_a_batch_that_a_gpu_does_not_hold_is_generated_object_by_object(data, tmp_path, monkeypatch):
    fit(data, tmp_path)
    original, held = SilhouetteEllipsoid.generate, []

    class Tensor:
        """Memory that a batch takes."""

    def full(self, images, *, rngs, ground_truth=None):
        held[:] = [reference for reference in held if reference() is not None]
        assert not held  # what the batch took is given back before its objects are tried
        if len(images) > 1:
            taken = Tensor()
            held.append(weakref.ref(taken))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, images, rngs=rngs)

    use(monkeypatch, generate=full)
    rows = generate(data, tmp_path, out=tmp_path / "whole", batch=4)
    alone = generate(data, tmp_path, out=tmp_path / "alone", batch=1)
    assert {row["status"] for row in rows} == {"ok"}
    for row, one in zip(rows, alone, strict=True):
        assert (tmp_path / "whole" / row["mesh"]).read_bytes() == (tmp_path / "alone" / one["mesh"]).read_bytes()


def test_a_batch_on_a_gpu_that_has_failed_is_nobodys_failure(data, tmp_path, monkeypatch):
    fit(data, tmp_path)

    def broken(self, images, *, rngs, ground_truth=None):
        raise BROKEN

    use(monkeypatch, generate=broken)
    with pytest.raises(torch.AcceleratorError):
        generate(data, tmp_path, batch=4)


def test_a_failing_load_fails_every_row(data, tmp_path, monkeypatch):
    fit(data, tmp_path)
    use(monkeypatch, load=explode)
    rows = generate(data, tmp_path)
    assert {row["reason"] for row in rows} == {"loading the weights: ValueError: the loss became nan"}


def test_one_bad_object_is_one_failed_row(data, tmp_path, monkeypatch):
    fit(data, tmp_path)
    clean = {row["object"]: row for row in generate(data, tmp_path)}
    split = Split(data.folder, "test")
    bad = {file_name(split.objects[i], v): split.image(i, v) for i, v in evaluation_views(split, 1)}
    bad_image = bad[file_name("test/plate", clean["test/plate"]["view"])]
    original = SilhouetteEllipsoid.generate

    def sometimes(self, images, *, rngs, ground_truth=None):
        for rng in rngs:
            rng.random()  # an attempt that fails must not shift the streams of the next
        if any(np.array_equal(image, bad_image) for image in images):
            raise RuntimeError("out of memory")
        return original(self, images, rngs=rngs)

    use(monkeypatch, generate=sometimes)
    rows = {row["object"]: row for row in generate(data, tmp_path, out=tmp_path / "bad")}
    assert [name for name, row in rows.items() if row["status"] == "failed"] == ["test/plate"]
    assert rows["test/plate"]["reason"] == "generating: RuntimeError: out of memory"
    again = {row["object"]: row for row in generate(data, tmp_path, out=tmp_path / "alone", batch=1)}
    for name in ("test/ball", "test/cigar", "test/pole"):
        mesh = (tmp_path / "bad" / rows[name]["mesh"]).read_bytes()
        assert mesh == (tmp_path / "alone" / again[name]["mesh"]).read_bytes()


def test_reading_the_ground_truth_undeclared_is_said(data, tmp_path, monkeypatch):
    fit(data, tmp_path)
    use(monkeypatch, generate=lambda self, images, *, rngs, ground_truth: [TRIANGLE for _ in ground_truth])
    for row in generate(data, tmp_path):
        assert row["status"] == "failed"
        assert row["reason"].endswith("its config.yaml must say reads_ground_truth: true")


UNSOUND = {
    "empty": (Mesh(np.empty((0, 3)), np.empty((0, 3), np.int32)), "the mesh is empty"),
    "not finite": (Mesh(np.full((3, 3), np.nan), TRIANGLE.faces), "not finite"),
    "far away": (Mesh(TRIANGLE.vertices * 1.5, TRIANGLE.faces), "a coordinate of 1.50, allowed are 1.2"),
    "bad faces": (Mesh(TRIANGLE.vertices, TRIANGLE.faces + 1), "outside 0..2"),
    "bad shape": (Mesh(TRIANGLE.vertices[:, :2], TRIANGLE.faces), "instead of (n, 3)"),
    "said so": (Failure("nothing inside"), "nothing inside"),
    "sound": (TRIANGLE, None),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_meshes_become_failed_rows(data, tmp_path, monkeypatch, case):
    result, reason = UNSOUND[case]
    fit(data, tmp_path)
    use(monkeypatch, generate=lambda self, images, *, rngs, ground_truth=None: [result] * len(images))
    for row in generate(data, tmp_path):
        assert row["status"] == ("ok" if reason is None else "failed")
        assert reason is None or reason in row["reason"]
    if reason is None:
        assert fault(TRIANGLE) is None


def test_finished_batches_survive_and_foreign_ones_do_not(data, tmp_path, monkeypatch):
    fit(data, tmp_path)
    calls: list[int] = []
    original = SilhouetteEllipsoid.generate

    def interrupted(self, images, *, rngs, ground_truth=None):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, images, rngs=rngs)

    use(monkeypatch, generate=interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(data, tmp_path)
    assert not (tmp_path / "out" / "generate.jsonl").exists()
    assert len(generate(data, tmp_path)) == 4
    assert calls == [2, 2, 2]  # one finished, one lost, one more
    assert read_json(tmp_path / "out" / "manifest.json")["resumes"] == 1
    assert not (tmp_path / "out" / "resume").exists()
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        generate(data, tmp_path)
    assert len(generate(data, tmp_path, batch=1)) == 4  # another partition: nothing is kept
    assert calls == [2, 2, 1, 1, 1, 1]
    assert read_json(tmp_path / "out" / "manifest.json")["resumes"] == 0


def test_unfinished_fits_are_kept_for_the_same_code_and_dropped_for_other(data, tmp_path, monkeypatch):
    seen: list[bool] = []

    def interrupted(self, stage, data, *, upstream, out, seed):
        state = out / "resume" / "state"
        seen.append(state.exists())
        if len(seen) < 4:
            state.parent.mkdir(exist_ok=True)
            state.touch()
            (out / ".weights.1.safetensors").touch()
            raise KeyboardInterrupt
        SilhouetteEllipsoid.fit(self, stage, data, upstream=upstream, out=out, seed=seed)

    use(monkeypatch, fit=interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit(data, tmp_path)
    with monkeypatch.context() as other:
        other.setattr(run, "source_hash", lambda *paths: "other code")
        with pytest.raises(KeyboardInterrupt):
            fit(data, tmp_path)
    manifest = fit(data, tmp_path)
    assert seen == [False, True, False, False] and manifest["resumes"] == 0
    (out,) = (path.parent for path in tmp_path.rglob("weights.safetensors"))
    assert sorted(path.name for path in out.iterdir()) == ["done.json", "manifest.json", "weights.safetensors"]


def test_fitting_reads_no_param_that_its_key_does_not_hold():
    plan = resolve("mar3d", "full", "smoke")
    assert set(run.readable_params(plan, "vae")) == {*plan.stage("vae").params, HARDWARE}
    upstream = set(plan.stage("vae").params)
    assert set(run.readable_params(plan, "mar_lr")) == {*plan.stage("mar_lr").params, *upstream, HARDWARE}
    assert "sampling" not in run.readable_params(plan, "mar_hr")


COMMON = ["--method=template", "--variant=full", "--scale=smoke", "--dataset=d", "--seed=0", "--prepared=p", "--runs=r"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "mar3dd"], "there is no method 'mar3dd'"),
        (["show", "mar3d", "--variant", "no_pyramide"], "did you mean 'no_pyramid'?"),
        (["show", "mar3d", "--scale", "huge"], "there is no scale 'huge'"),
        (["generate", *COMMON], "no prepared shards in p/test"),
        (["fit", "--stage", "vae", *COMMON], "there is no stage of template/full 'vae' (known: depth)"),
        (["generate", *COMMON, "--threads", "0"], "threads must be a whole number of at least 1, not '0'"),
    ],
)
def test_the_command_line_says_what_is_wrong(tmp_path, arguments, message):
    command = [sys.executable, "-m", "methods", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_the_manifest_has_the_operations_of_one_object_where_the_generator_counts_them(data, tmp_path, monkeypatch):
    fit(data, tmp_path)
    generate(data, tmp_path)
    assert read_json(tmp_path / "out" / "manifest.json")["flops"] is None
    use(monkeypatch, flops=lambda self, images, rngs: {"sample": 5.0 * len(images) * len(rngs)})
    generate(data, tmp_path)
    assert read_json(tmp_path / "out" / "manifest.json")["flops"] == {"sample": 5.0}
    use(monkeypatch, flops=lambda self, images, rngs: 1 / 0)  # the meshes are made all the same
    assert all(row["status"] == "ok" for row in generate(data, tmp_path))
    assert read_json(tmp_path / "out" / "manifest.json")["flops"] is None


def test_a_training_is_of_its_own_splits_alone(tmp_path):
    splits = {split: {"sha256": split} for split in ("train", "val", "test")}
    hashes = []
    for change in ("", "test", "val"):
        about = {**splits, change: {"sha256": "other"}} if change else splits
        (tmp_path / "manifest.json").write_text(json.dumps({"splits": about, "data_hash": change}))
        hashes.append(manifest.data_hash(tmp_path, "train", "val"))
    assert hashes[0] == hashes[1] != hashes[2]
