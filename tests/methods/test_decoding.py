"""The decoder's field: a chunk at a time, of a size that fits, with the same values whatever the size."""

import numpy as np
import pytest
import torch

from methods.mar3d import decoding
from methods.mar3d.pyramid_vae import build_vae
from methods.registry import resolve
from methods.training.loop import seeded


@pytest.fixture(scope="module")
def shape():
    """A VAE with random weights, and what `decode` makes of latents of 16 HR tokens."""
    params = resolve("mar3d", "full", "smoke").params
    vae = seeded(lambda: build_vae(params["vae"], params["latent"]), "decoding").eval().requires_grad_(False)
    latents = params["latent"]
    return vae, vae.decode(torch.randn(1, latents["tokens"]["hr"], latents["channels"]))


def test_the_field_is_the_network_whatever_the_chunk(shape, monkeypatch):
    vae, keys = shape
    points = np.random.default_rng(0).uniform(-1, 1, (1500, 3)).astype(np.float32)
    whole = vae.occupancy(keys, torch.from_numpy(points)[None])[0].numpy()
    for room in (1, 1 << 30):
        monkeypatch.setattr(decoding, "CACHE", room)
        np.testing.assert_allclose(decoding.field_of(vae, keys, "fp32")(points), whole, atol=1e-5)
    assert decoding.field_of(vae, keys, "fp32")(points[:0]).shape == (0,)


def test_a_chunk_holds_as_many_points_as_their_widest_layer_fits(shape, monkeypatch):
    vae, keys = shape
    hidden, (_, heads, tokens, _) = vae.read.mlp[0].out_features, keys[0].shape
    monkeypatch.setattr(decoding, "CACHE", 4 * hidden * 5000)
    assert hidden > heads * tokens
    assert decoding.points_at_once(vae, keys) == 5000
    many = tuple(part.repeat(1, 1, 10 * hidden // tokens, 1) for part in keys)
    assert decoding.points_at_once(vae, many) == decoding.LEAST  # scores of that many tokens would fit for 250
