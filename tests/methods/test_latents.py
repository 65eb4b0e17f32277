"""Latents: standardised to unit variance, the cache and the encoder agree, statistics in closed form."""

import pytest
import torch

from data.store import Split
from methods.contract import PreparedData
from methods.mar3d.latents import FILE, LatentPool, statistics
from methods.mar3d.method import fit_vae
from methods.registry import resolve
from methods.training.pool import SurfacePool


def test_statistics_of_known_posteriors():
    g = torch.Generator().manual_seed(0)
    mean = 3 + 2 * torch.randn((500, 2, 8, 4), generator=g)
    log_variance = torch.full_like(mean, 0.0)
    found = statistics(torch.cat([mean, log_variance], -1))
    torch.testing.assert_close(found["mean"], torch.full((4,), 3.0), atol=0.1, rtol=0)
    torch.testing.assert_close(found["std"], torch.full((4,), 5**0.5), atol=0.1, rtol=0)  # 2^2 + 1
    torch.testing.assert_close(found["noise"], torch.full((4,), 5**-0.5), atol=0.03, rtol=0)


@pytest.fixture(scope="module")
def stage(prepared, tmp_path_factory):
    params = resolve("mar3d", "full", "smoke").params
    params = {**params, "vae": {**params["vae"], "training": {**params["vae"]["training"], "steps": 5}}}
    out = tmp_path_factory.mktemp("vae")
    fit_vae(params, PreparedData(prepared, "procedural", "smoke"), out=out, seed=0, device=torch.device("cpu"))
    return out


def draw(pool, bank="hr", n=2000):
    g = torch.Generator().manual_seed(0)
    objects, views = torch.randint(0, 8, (n,), generator=g), torch.randint(0, 4, (n,), generator=g)
    return pool.draw(bank, objects, views, g)


@pytest.mark.parametrize("bank", ["lr", "hr"])
def test_draws_have_zero_mean_and_unit_variance(stage, bank):
    latents = draw(LatentPool(stage, None, torch.device("cpu"), "fp32"), bank)
    assert latents.mean((0, 1)).abs().max() < 0.1
    assert (latents.std((0, 1)) - 1).abs().max() < 0.05
    assert not latents.requires_grad


def test_encoding_on_the_fly_gives_the_cached_latents(stage, prepared, tmp_path):
    cached = draw(LatentPool(stage, None, torch.device("cpu"), "bf16"), n=32)
    (tmp_path / "weights.safetensors").write_bytes((stage / "weights.safetensors").read_bytes())
    assert (stage / FILE).exists() and not (tmp_path / FILE).exists()
    surfaces = SurfacePool(Split(prepared, "train"), torch.device("cpu"), occupancy=False)
    fresh = draw(LatentPool(tmp_path, surfaces, torch.device("cpu"), "bf16"), n=32)
    assert (fresh - cached).abs().mean() < 0.05


def test_without_cache_and_surfaces_there_is_nothing_to_draw_from(stage, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes((stage / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match="surfaces are needed"):
        LatentPool(tmp_path, None, torch.device("cpu"), "bf16")
