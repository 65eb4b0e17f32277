"""Generators behind the frozen encoder, end to end at smoke sizes: fitted, resumed, stored, generating."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open

from core.errors import UserError
from core.files import read_json
from core.randomness import numpy_rng
from data.store import Split
from methods.contract import Mesh, PreparedData
from methods.dit.dit import build_dit
from methods.dit.method import LatentDiT
from methods.layers.clip_dinov2 import FUSIONS
from methods.layers.diffusion import Diffusion
from methods.mar3d.mar import build_mar
from methods.mar3d.method import Mar3D, fit_mar, load_mar
from methods.mar3d.vae_training import fit_vae
from methods.registry import resolve

CPU = torch.device("cpu")
STEPS = 4


def short(params, image_encoder, **own):
    """Params of the smoke scale with few steps and the frozen encoder."""
    params = copy.deepcopy(dict(params)) | {"image_encoder": copy.deepcopy(image_encoder)}
    params["image_encoder"]["clip_dinov2"] |= own
    for section in {"vae", "mar_lr", "mar_hr"} & set(params):
        params[section]["training"]["steps"] = STEPS
    return params


@pytest.fixture(scope="module")
def vae(prepared, tmp_path_factory):
    params = short(resolve("mar3d", "full", "smoke").params, {"name": "scratch", "clip_dinov2": {}})
    out = tmp_path_factory.mktemp("vae")
    fit_vae(params, PreparedData(prepared, "procedural", "smoke"), out=out, seed=0, device=CPU)
    return out


@pytest.fixture
def data(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_FEATURES", str(tmp_path / "features"))
    return PreparedData(prepared, "procedural", "smoke")


def pictures(prepared):
    split = Split(prepared, "test")
    return np.stack([split.image(i, split.upright_views[0]) for i in range(len(split))])


def generated(generator, images):
    results = generator.generate(images, rngs=[numpy_rng("test", i) for i in range(len(images))])
    assert len(results) == len(images)
    return results


def header(stage):
    with safe_open(stage / "weights.safetensors", framework="pt") as file:
        return json.loads(file.metadata()["header"]), set(file.keys())


def test_mar3d_is_fitted_and_generates(image_encoder, data, prepared, vae, tmp_path, pretrained_models, monkeypatch):
    params = short(resolve("mar3d", "full", "smoke").params, image_encoder)
    method, stages = Mar3D(params), {"vae": vae}
    for stage in ("mar_lr", "mar_hr"):
        stages[stage] = tmp_path / stage
        method.fit(stage, data, upstream={"vae": vae}, out=stages[stage], seed=0)
        about, tensors = header(stages[stage])
        encoder = {name for name in tensors if name.startswith("image_encoder.")}
        assert encoder == {f"image_encoder.norms.{k}.{p}" for k in ("clip", "dino") for p in ("weight", "bias")}
        assert set(about["image_encoder"]) == {"clip", "dino"}
        assert read_json(stages[stage] / "measured.json")["image_encoder"] == about["image_encoder"]
        model = load_mar(stages[stage], stage.removeprefix("mar_"), CPU)
        counted = sum(p.numel() for p in model.parameters())
        assert read_json(stages[stage] / "costs.json")["parameters"] == counted
    images = pictures(prepared)
    cascade = method.load(stages, "cpu")
    bank, latents = cascade.sample(images, [numpy_rng("a", i) for i in range(len(images))])
    assert bank == "hr" and latents.shape == (2, 16, 4) and latents.isfinite().all()
    assert all(isinstance(r, Mesh) or r.reason for r in generated(cascade, images))
    # Weights other than those it was trained behind are not used in silence.
    other = tmp_path / "models"
    shutil.copytree(pretrained_models, other)
    dino = other / "facebook/dinov2-large/model.safetensors"
    dino.write_bytes(dino.read_bytes()[:-1] + b"\x01")
    monkeypatch.setenv("PRETRAINED_MODELS", str(other))
    with pytest.raises(UserError, match="was trained behind facebook/dinov2-large"):
        method.load(stages, "cpu")


def test_dit_is_fitted_and_generates(image_encoder, data, prepared, vae, tmp_path):
    params = short(resolve("dit", "dit_lr", "smoke").params, image_encoder, fusion="token")
    method, out = LatentDiT(params), tmp_path / "dit_lr"
    method.fit("dit_lr", data, upstream={"vae": vae}, out=out, seed=0)
    about, _ = header(out)
    assert set(about["image_encoder"]) == {"clip", "dino"}
    generated(method.load({"vae": vae, "dit_lr": out}, "cpu"), pictures(prepared))


def losses(out):
    return [json.loads(line)["loss"] for line in (out / "fit.jsonl").read_text().splitlines()]


def test_a_cache_changes_nothing_but_the_time(image_encoder, data, vae, tmp_path):
    """The same losses from cached features as from images, and no image of a cached view is decoded."""
    found = {}
    for name, cache_gb in (("cached", 1), ("drawn", 0)):
        params = short(resolve("mar3d", "full", "smoke").params, image_encoder, cache_gb=cache_gb)
        params["mar_lr"]["training"]["precision"] = "fp32"
        fit_mar(params, "mar_lr", data, vae=vae, out=tmp_path / name, seed=0, device=CPU)
        found[name] = losses(tmp_path / name)
    assert len(found["cached"]) == STEPS
    np.testing.assert_allclose(found["cached"], found["drawn"], rtol=1e-3)
    said = [read_json(tmp_path / name / "measured.json")["image_features"] for name in ("cached", "drawn")]
    assert said == ["cached", "computed as drawn"]
    costs = [read_json(tmp_path / name / "costs.json")["step_flops"] for name in ("cached", "drawn")]
    assert costs[0] < costs[1]  # what is computed at each step is counted, what is cached is not


def test_a_resumed_training_keeps_to_its_weights(image_encoder, data, vae, tmp_path):
    params = short(resolve("mar3d", "full", "smoke").params, image_encoder)
    out = tmp_path / "mar_lr"
    (out / "resume").mkdir(parents=True)
    other = {kind: {"model": kind, "sha256": "0" * 64} for kind in ("clip", "dino")}
    (out / "resume" / "image_encoder.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="resume was trained behind clip"):
        fit_mar(params, "mar_lr", data, vae=vae, out=out, seed=0, device=CPU)


# ---------------------------------------------------------------- the null condition


def networks(image_encoder, fusion):
    params = short(resolve("dit", "cascade", "smoke").params, image_encoder, fusion=fusion)
    torch.manual_seed(0)
    return build_mar(params, "hr", 32).eval(), build_dit(params, "dit_hr", 32).eval()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_null_condition_does_not_see_the_image(image_encoder, prepared, fusion):
    images = torch.from_numpy(pictures(prepared))
    keep, nothing = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.bool)
    for model in networks(image_encoder, fusion):
        features = model.image_encoder.features(images)
        null = model.null_condition(2)
        assert null.shape == (2, 10 if fusion == "token" else 5, 32)
        for given in (images, features):
            assert torch.equal(model.condition(given, nothing), null)
            assert (model.condition(given, keep) - null).abs().max() > 0.01
        first = model.condition(images, torch.tensor([True, False]))
        assert torch.equal(first[1], null[1]) and not torch.equal(first[0], null[0])
        assert (model.condition(images, keep)[0] - model.condition(images, keep)[1]).abs().max() > 1e-3


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_loss_reaches_every_parameter(image_encoder, prepared, fusion):
    model = networks(image_encoder, fusion)[0].train()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    g = torch.Generator().manual_seed(0)
    latents, low = (torch.randn((4, n, model.channels), generator=g) for n in (model.tokens, model.low_tokens))
    features = model.image_encoder.features(torch.from_numpy(pictures(prepared))).repeat(2, 1, 1)
    mask = {"low": 0.5, "high": 0.5}
    kinds = {"generator": g, "diffusion": Diffusion(1000), "drop": 0.5, "mask": mask, "repeats": 2}
    value, _ = model.loss(features, latents, low, **kinds)
    value.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
