"""What only a GPU does: training, resuming, generating and measuring there. And what can be seen of it without one.

    GPU=1 python -m pytest -n0 tests/methods/test_gpu.py

Without GPU=1 the tests that want a card are skipped. GPU=cpu runs them on the CPU, to try the tests themselves. What
runs everywhere follows sampling and decoding on the meta device, with the casts of CUDA's bf16 autocast: tensors of
two devices, or of types that a kernel refuses, do not meet there either.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from core.files import read_json
from core.identity import ROOT
from methods.contract import PreparedData
from methods.dit import sampling as dit_sampling
from methods.dit.dit import build_dit
from methods.foresee.trace import AsOnGpu
from methods.generate import generate
from methods.manifest import read_stage
from methods.mar3d import sampling as mar_sampling
from methods.mar3d.mar import build_mar
from methods.mar3d.pyramid_vae import build_vae
from methods.places import stage_folder
from methods.registry import resolve
from methods.run import fit
from methods.training import loop
from methods.training.devices import device_of, to_device
from methods.training.draws import WHOLE, Share
from methods.training.log import Log
from methods.training.muon import BatchedMuon
from methods.training.weights import lowered
from tests.methods.trained import STAGES

SCALE = "smoke"
CARD = torch.cuda.is_available() and os.environ.get("GPU") == "1"
DEVICE = "cuda" if CARD else "cpu"
on_a_gpu = pytest.mark.skipif(not (CARD or os.environ.get("GPU") == "cpu"), reason="needs a GPU, and GPU=1")
on_one_card = pytest.mark.skipif(not CARD, reason="needs a GPU, and GPU=1")
on_two_cards = pytest.mark.skipif(not CARD or torch.cuda.device_count() < 2, reason="needs two GPUs, and GPU=1")
IMAGE = 32


class StoppedError(BaseException):
    """Stands for a kill, in this very process: no failure of the method."""


# ---------------------------------------------------------------- without a GPU


def mar_of(name: str) -> tuple[Any, Callable, dict]:
    """A MAR on the meta device as generation holds it, what samples it, and three of its diffusion steps."""
    params = resolve("mar3d", "full", SCALE).params
    settings = params["sampling"]["lr" if name == "lr" else "hr"]
    return build_mar(params, name, IMAGE), mar_sampling.sample, {**settings, "diffusion_steps": 3}


def dit_of(stage: str) -> tuple[Any, Callable, dict]:
    """The same for a DiT, with three steps."""
    params = resolve("dit", "cascade", SCALE).params
    return build_dit(params, stage, IMAGE), dit_sampling.sample, {**params["sampling"][stage], "steps": 3}


SAMPLED = [(mar_of, name) for name in ("lr", "hr", "hr_direct")]
SAMPLED += [(dit_of, name) for name in ("dit_lr", "dit_hr", "dit_hr_direct", "flow")]


def sampled(build: Callable, name: str, mode: AsOnGpu, images_on: str = "meta", guidance: float = 3.0) -> torch.Tensor:
    """Latents of two images, drawn on the meta device by a model whose weights are cast as generation casts them."""
    with torch.device("meta"):
        model, sample, settings = build(name)
        model = lowered(model.eval().requires_grad_(False), "bf16")
        low = torch.zeros((2, model.low_tokens, model.channels)) if model.low_tokens else None
    images = torch.zeros((2, IMAGE, IMAGE, 4), dtype=torch.uint8, device=images_on)
    rngs = [np.random.default_rng(row) for row in range(2)]
    with mode:
        return sample(model, images, low, rngs=rngs, params=settings | {"guidance": guidance})


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("build, name", SAMPLED)
def test_sampling_has_the_devices_and_types_that_a_gpu_wants(build, name, guidance):
    drawn = sampled(build, name, AsOnGpu(bf16=True), guidance=guidance)
    assert (drawn.device.type, drawn.dtype, len(drawn)) == ("meta", torch.float32, 2)


def test_decoding_has_the_devices_and_types_that_a_gpu_wants():
    params = resolve("mar3d", "full", SCALE).params
    with torch.device("meta"):
        vae = build_vae(params["vae"], params["latent"]).eval().requires_grad_(False)
        for bank in ("lr", "hr"):
            latents = torch.zeros((1, params["latent"]["tokens"][bank], params["latent"]["channels"]))
            with torch.no_grad(), AsOnGpu(bf16=True):
                assert vae.occupancy(vae.decode(latents), torch.zeros((1, 100, 3))).shape == (1, 100)


@pytest.mark.parametrize("build, name", [SAMPLED[1], SAMPLED[4]])
def test_images_left_on_the_cpu_and_weights_without_their_casts_would_be_seen(build, name):
    with pytest.raises(RuntimeError, match="device"):
        sampled(build, name, AsOnGpu(bf16=True), images_on="cpu")
    with pytest.raises(RuntimeError, match=r"dtype|[Ii]nput type"):
        sampled(build, name, AsOnGpu(bf16=False))


# ---------------------------------------------------------------- on a GPU


@pytest.fixture(scope="module")
def data(prepared):
    return PreparedData(prepared, "procedural", SCALE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("gpu")


def fitted(setting: str, stage: str, data: PreparedData, runs: Path) -> Path:
    """The folder of a stage, after it and what it needs have been fitted, each once."""
    plan = resolve(*setting.split("/"), SCALE)
    for need in plan.stage(stage).needs:
        fitted(setting, need, data, runs)
    out = stage_folder(runs, data.dataset, SCALE, plan.stage(stage), 0)
    if not (out / "manifest.json").exists():
        fit(*setting.split("/"), stage, data, seed=0, runs=runs, threads=1)
    return out


def losses(folder: Path) -> torch.Tensor:
    return torch.tensor([json.loads(line)["loss"] for line in (folder / "fit.jsonl").read_text().splitlines()])


@on_a_gpu
@pytest.mark.parametrize("setting, stage", STAGES)
def test_every_stage_trains(setting, stage, data, runs):
    out = fitted(setting, stage, data, runs)
    record = read_stage(out)
    assert (record["status"], record["reason"], record["device"]["kind"]) == ("ok", None, DEVICE)
    assert record["training_flops"] > 0 and record["step_seconds"] > 0 and 0 <= record["data_wait_share"] <= 1
    if CARD:
        assert 0 < record["peak_memory_mb"]["device"] < torch.cuda.mem_get_info()[1] / 1e6
    assert torch.isfinite(losses(out)).all()


@on_a_gpu
@pytest.mark.parametrize("setting, stage", STAGES[:2])
def test_a_stopped_fit_goes_on_to_the_same_losses_and_weights(setting, stage, data, runs, tmp_path, monkeypatch):
    """To a tolerance: on a GPU some sums have no fixed order.

    On a CPU, noise of a thousandth of every gradient moves these losses by 0.5 % and the weights by 0.7 %.
    """
    whole = fitted(setting, stage, data, runs)
    plan = resolve(*setting.split("/"), SCALE)
    for need in plan.stage(stage).needs:
        folder = stage_folder(runs, data.dataset, SCALE, plan.stage(need), 0)
        shutil.copytree(folder, tmp_path / folder.relative_to(runs))
    line = Log.line

    def stop(self, at, *rest):
        if at == 30:
            raise StoppedError
        line(self, at, *rest)

    with monkeypatch.context() as patch:
        patch.setitem(loop.train.__kwdefaults__, "save_every", 0.0)
        patch.setattr(Log, "line", stop)
        with pytest.raises(StoppedError):
            fit(*setting.split("/"), stage, data, seed=0, runs=tmp_path, threads=1)
    out = fitted(setting, stage, data, tmp_path)
    assert read_stage(out)["resumes"] == 1
    torch.testing.assert_close(losses(out), losses(whole), rtol=0.05, atol=0.02)
    # All together: what has hardly a gradient (a bias that softmax takes out) is moved by rounding alone.
    a, b = (load_file(folder / "weights.safetensors") for folder in (whole, out))
    square = [(((b[name] - a[name]).float() ** 2).sum(), (a[name].float() ** 2).sum()) for name in a]
    difference, size = (torch.stack(parts).sum().sqrt() for parts in zip(*square, strict=True))
    assert difference <= 0.05 * size, f"{difference:.3g} of {size:.3g}"


@on_a_gpu
@pytest.mark.parametrize("setting", ["mar3d/full", "mar3d/hr_direct", "dit/cascade", "dit/flow"])
def test_meshes_are_generated(setting, data, runs, tmp_path):
    method, variant = setting.split("/")
    for stage in resolve(method, variant, SCALE).stages:
        fitted(setting, stage.name, data, runs)
    path = generate(method, variant, data, seed=0, runs=runs, out=tmp_path, threads=1)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    # The VAE of this scale has learnt nothing: a field may be empty, and nothing else may go wrong.
    assert len(rows) == 2 and all("empty" in (row.get("reason") or "empty") for row in rows), rows
    record = read_json(tmp_path / "manifest.json")
    assert (record["status"], record["device"]["kind"]) == ("ok", DEVICE) and record["flops"]["sample"] > 0


def methods(*words: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "methods", *map(str, words)]
    own = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=300)


@on_a_gpu
@pytest.mark.parametrize("setting, stage", STAGES[:3])
def test_a_step_is_measured(setting, stage):
    done = methods("step", "--method", setting, "--stage", stage, "--scale", SCALE, "--repeats", 2)
    assert done.returncode == 0, done.stderr
    assert f"on {DEVICE}" in done.stdout
    assert 0 < float(re.search(r"utilisation (\S+)%", done.stdout)[1]) < 100
    assert 0 < float(re.search(r"loss (\S+)", done.stdout)[1]) < 100


def fit_by_two(data: PreparedData, runs: Path, **environment: str) -> subprocess.CompletedProcess:
    words = ["--method", "mar3d", "--variant", "full", "--stage", "vae", "--scale", SCALE, "--seed", 0, "--runs", runs]
    words += ["--dataset", data.dataset, "--prepared", data.folder, "--processes", 2]
    return methods("fit", *words, **environment)


@on_one_card
def test_two_processes_on_one_card_are_refused(data, tmp_path):
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    done = fit_by_two(data, tmp_path, CUDA_VISIBLE_DEVICES=first)
    assert done.returncode == 2
    assert "2 processes on this node see 1 GPUs: start one for each" in done.stderr
    assert not list(tmp_path.rglob("manifest.json"))


@on_two_cards
def test_two_processes_train_over_nccl_as_one_does(data, runs, tmp_path):
    alone = fitted("mar3d/full", "vae", data, runs)
    done = fit_by_two(data, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (path.parent for path in tmp_path.rglob("manifest.json"))
    assert (read_stage(folder)["status"], read_stage(folder)["processes"]) == ("ok", 2)
    torch.testing.assert_close(losses(folder), losses(alone), rtol=0.05, atol=0.02)


@on_one_card
def test_what_is_copied_through_pinned_memory_arrives_whole():
    array = np.random.default_rng(0).normal(size=(1000, 100)).astype(np.float32)
    there = to_device(array, device_of("cuda"))
    assert there.device == torch.device("cuda:0") and np.array_equal(there.cpu().numpy(), array)


@on_a_gpu
def test_shares_of_a_draw_on_the_device_are_its_rows():
    device = device_of(DEVICE)
    for draw in ("normal", "uniform"):
        whole = getattr(WHOLE, draw)((6, 3), torch.Generator().manual_seed(0), device)
        parts = [getattr(Share(i, 3), draw)((2, 3), torch.Generator().manual_seed(0), device) for i in range(3)]
        assert torch.equal(torch.cat(parts), whole) and whole.device == device


@on_a_gpu
def test_muon_of_many_matrices_is_torchs_of_each():
    settings = {"lr": 1e-2, "momentum": 0.95, "ns_steps": 5, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    generator = torch.Generator().manual_seed(0)
    begin = [torch.randn(shape, generator=generator) for shape in ((24, 24), (48, 24), (24, 24))]
    alone, together = ([torch.nn.Parameter(x.to(DEVICE, copy=True)) for x in begin] for _ in range(2))
    one, many = torch.optim.Muon(alone, **settings), BatchedMuon(together, **settings)
    for _ in range(3):
        for a, b in zip(alone, together, strict=True):
            a.grad = torch.randn(a.shape, generator=generator).to(DEVICE)
            b.grad = a.grad.clone()
        one.step()
        many.step()
    for start, a, b in zip(begin, alone, together, strict=True):
        assert (a - b).norm() < 0.02 * (a - start.to(DEVICE)).norm()  # bfloat16


@on_one_card
def test_fused_adamw_goes_on_from_a_state_that_was_kept_on_the_cpu():
    generator = torch.Generator().manual_seed(0)
    begin, gradients = torch.randn(8, 8, generator=generator), torch.randn(4, 8, 8, generator=generator)

    def take(optimiser: torch.optim.AdamW, weight: torch.nn.Parameter, steps: range) -> None:
        for step in steps:
            weight.grad = gradients[step].cuda()
            optimiser.step()

    whole, half = (torch.nn.Parameter(begin.cuda()) for _ in range(2))
    take(torch.optim.AdamW([whole], lr=1e-2, fused=True), whole, range(4))
    first = torch.optim.AdamW([half], lr=1e-2, fused=True)
    take(first, half, range(2))
    kept = first.state_dict()
    kept["state"] = {i: {k: v.cpu() for k, v in state.items()} for i, state in kept["state"].items()}
    again = torch.optim.AdamW([half], lr=1e-2, fused=True)
    again.load_state_dict(kept)
    take(again, half, range(2, 4))
    torch.testing.assert_close(half, whole)
