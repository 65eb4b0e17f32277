"""The variants of `mar3d` that only sample otherwise: no stage may be trained again for them."""

import numpy as np
import pytest
import torch

from methods import registry, specs
from methods.mar3d import decoding, method

SAMPLING = [
    name
    for name in registry.get_method("mar3d").variants
    if name.startswith(("schedule_", "steps_", "guidance_", "augmentation_"))
]


def test_the_sweeps_are_there():
    assert {"schedule_uniform", "guidance_constant", "guidance_paper"} < set(SAMPLING)
    assert {f"steps_{n}" for n in (1, 4, 16, 64)} < set(SAMPLING)
    assert {f"augmentation_{t}" for t in ("000", "025", "050", "075")} < set(SAMPLING)


@pytest.mark.parametrize("scale", specs.SCALES)
@pytest.mark.parametrize("variant", SAMPLING)
def test_another_sampling_shares_every_stage_with_full(variant, scale):
    full, other = (registry.resolve("mar3d", name, scale) for name in ("full", variant))
    assert other.stages == full.stages
    assert {**other.params, "sampling": full.params["sampling"]} == dict(full.params)


def test_each_sweep_changes_what_its_name_says():
    def sampling(variant):
        return registry.resolve("mar3d", variant, "paper").params["sampling"]

    assert [sampling(f"steps_{n}")["lr"]["steps"] for n in (1, 4, 16, 64)] == [1, 4, 16, 64]
    assert [sampling(f"augmentation_{t}")["hr"]["augmentation"] for t in ("000", "025", "050", "075")] == [
        0.0, 0.25, 0.5, 0.75,
    ]  # fmt: skip
    for stage in ("lr", "hr"):
        assert sampling("schedule_uniform")[stage]["schedule"] == "uniform"
        assert sampling("guidance_paper")[stage]["guidance_schedule"] == "paper"


@pytest.mark.parametrize("scale", specs.SCALES)
def test_clean_tokens_in_training_are_clean_at_inference(scale):
    params = registry.resolve("mar3d", "no_condition_augmentation", scale).params
    assert params["mar_hr"]["augmentation"] == {"low": 0.0, "high": 0.0}
    assert params["sampling"]["hr"]["augmentation"] == 0.0


@pytest.mark.parametrize("t", [0.0, 0.25, 0.75])
def test_the_cascade_noises_the_low_tokens_as_the_sampling_says(monkeypatch, t):
    seen = []

    def sample(model, images, low, *, rngs, params):
        seen.append(low)
        return torch.ones(len(images), 500, 4)

    monkeypatch.setattr(method, "sample", sample)
    monkeypatch.setattr(decoding, "decode_meshes", lambda *args: [])
    cascade = method.Cascade.__new__(method.Cascade)
    cascade.device, cascade.lr, cascade.hr, cascade.direct, cascade.vae = torch.device("cpu"), "lr", "hr", None, None
    cascade.scaling = type("Scaling", (), {"restore": staticmethod(lambda bank, latents: latents)})
    cascade.precision = "fp32"
    cascade.params = {"extraction": {}, "sampling": {"lr": {}, "hr": {"augmentation": t}}}
    cascade.generate(np.zeros((1, 8, 8, 4), np.uint8), rngs=[np.random.default_rng(0)])
    assert float(seen[1].mean()) == pytest.approx(1 - t, abs=0.08)
    assert float(seen[1].std()) == pytest.approx(t, abs=0.08)
