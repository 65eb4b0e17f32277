"""The two controls that encode and decode the true surface: one function, over a VAE that is loaded once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.store import Split
from methods.mar3d import decoding
from methods.mar3d.latents import save_vae
from methods.mar3d.pyramid_vae import build_vae
from methods.registry import resolve
from methods.vae_ceiling import method as ceiling
from methods.vae_study import method as study

BANKS = {"lr": 4, "hr": 8}


@pytest.fixture
def stage(tmp_path):
    """The folder of an untrained VAE at the smoke scale, with both methods' banks."""
    params = resolve("mar3d", "full", "smoke").params
    latent = {**params["latent"], "tokens": BANKS}
    torch.manual_seed(0)
    vae = build_vae(params["vae"], latent)
    scaling = {f"{bank}.{k}": torch.ones(latent["channels"]) for bank in BANKS for k in ("mean", "std")}
    save_vae(tmp_path, vae, scaling, {"vae": params["vae"], "latent": latent})
    return tmp_path


@pytest.fixture
def decoded(monkeypatch):
    """What is handed to the decoder: (bank's tokens, extraction), instead of meshes."""
    seen = []

    def decode(vae, latents, extraction, precision, seconds=None):
        seen.append((latents.float().numpy(), extraction, precision))
        return ["mesh"] * len(latents)

    monkeypatch.setattr(decoding, "decode_meshes", decode)
    return seen


def test_the_posteriors_mean_of_the_true_surface_is_decoded(stage, ellipsoids, decoded):
    samples = [Split(ellipsoids, "test").sample(i, 0) for i in (0, 1)]
    params = resolve("vae_ceiling", "lr", "smoke").params
    generator = ceiling.VaeCeiling(params).load({"vae": stage}, "cpu")
    assert generator.generate([], rngs=[], ground_truth=samples) == ["mesh", "mesh"]
    ((latents, extraction, precision),) = decoded
    vae, _ = decoding.load_vae(stage, torch.device("cpu"))
    points, normals = (torch.from_numpy(array)[None] for array in samples[1].surface())
    with torch.no_grad(), decoding.autocast(torch.device("cpu"), precision):
        expected = vae.encode(points, normals, "lr").mean[0].float().numpy()
    assert latents.shape == (2, BANKS["lr"], vae.from_latent.in_features)
    assert np.abs(latents[1] - expected).max() < 0.02 * np.abs(expected).max()  # bf16, another batch
    assert extraction == resolve("mar3d", "full", "smoke").params["extraction"]


@pytest.mark.parametrize(
    ("module", "entry", "method", "variant"),
    [(ceiling, "VaeCeiling", "vae_ceiling", "full"), (study, "VaeStudy", "vae_study", "pyramid_hr")],
)
def test_the_vae_is_loaded_once(stage, ellipsoids, decoded, monkeypatch, module, entry, method, variant):
    loaded = []
    monkeypatch.setattr(module, "load_vae", lambda *given: loaded.append(given) or decoding.load_vae(*given))
    samples = [Split(ellipsoids, "test").sample(0, 0)]
    generator = getattr(module, entry)(resolve(method, variant, "smoke").params).load({"vae": stage}, "cpu")
    for _ in range(3):
        generator.generate([], rngs=[], ground_truth=samples)
    assert len(loaded) == 1 and len(decoded) == 3
    assert np.array_equal(decoded[0][0], decoded[2][0])
