"""Latents: standardised to unit variance, the cache and the encoder agree, statistics in closed form."""

import pytest
import torch

from core.errors import UserError
from core.files import read_json
from data.store import Split
from methods.contract import PreparedData, Sizes
from methods.mar3d import latents
from methods.mar3d.foresee import encoding_flops
from methods.mar3d.latents import FILE, LatentPool, cache_bytes, kept_for, load_vae, make_again, statistics
from methods.mar3d.method import fit_mar
from methods.mar3d.vae_training import fit_vae
from methods.registry import resolve
from methods.training.pool import SurfacePool, draw_views, view_shares
from methods.training.weights import load_weights, save_weights

SHARE = resolve("mar3d", "full", "smoke").params["vae"]["rotated_share"]


def test_statistics_of_known_posteriors():
    g = torch.Generator().manual_seed(0)
    mean = 3 + 2 * torch.randn((1000, 8, 4), generator=g)
    log_variance = torch.full_like(mean, 0.0)
    found = statistics(torch.cat([mean, log_variance], -1), rows=77)
    torch.testing.assert_close(found["mean"], torch.full((4,), 3.0), atol=0.1, rtol=0)
    torch.testing.assert_close(found["std"], torch.full((4,), 5**0.5), atol=0.1, rtol=0)  # 2^2 + 1
    torch.testing.assert_close(found["noise"], torch.full((4,), 5**-0.5), atol=0.03, rtol=0)


def test_statistics_are_added_up_on_the_device_that_is_asked(monkeypatch):
    posteriors, asked, to = torch.randn(6, 5, 2), [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device: asked.append(device) or to(x, device))
    found = statistics(posteriors, rows=3, device="cpu")
    assert asked == ["cpu"] * 3  # the shares, and both parts
    assert all(torch.equal(value, statistics(posteriors)[name]) for name, value in found.items())


def test_statistics_weigh_each_posterior_as_often_as_it_is_drawn():
    mean = torch.tensor([0.0, 0.0, 6.0, 6.0])[:, None, None].expand(4, 5, 1)
    posteriors = torch.cat([mean, torch.full_like(mean, -40.0)], -1)
    found = statistics(posteriors, torch.tensor([1.0, 1.0, 3.0, 1.0]), rows=3)
    assert found["mean"].item() == pytest.approx(4.0)
    assert found["std"].item() == pytest.approx((2 * 16 + 4 * 4) ** 0.5 / 6**0.5)  # two of 6 lie 4 below, four 2 above


@pytest.mark.parametrize("upright, total, share", [(2, 4, 0.125), (8, 56, 0.857), (3, 3, 0.5)])
def test_shares_of_views_are_those_of_the_draws(upright, total, share):
    shares = view_shares(upright, total, share)
    drawn = draw_views(40000, upright, total, share, torch.Generator().manual_seed(0))
    assert shares.sum().item() == pytest.approx(1)
    assert torch.bincount(drawn, minlength=total) / 40000 == pytest.approx(shares.numpy(), abs=0.01)


@pytest.fixture(scope="module")
def stage(prepared, tmp_path_factory):
    params = resolve("mar3d", "full", "smoke").params
    params = {**params, "vae": {**params["vae"], "training": {**params["vae"]["training"], "steps": 5}}}
    out = tmp_path_factory.mktemp("vae")
    fit_vae(params, PreparedData(prepared, "procedural", "smoke"), out=out, seed=0, device=torch.device("cpu"))
    return out


def draw(pool, bank="hr", n=2000):
    g = torch.Generator().manual_seed(0)
    objects, views = torch.randint(0, 8, (n,), generator=g), draw_views(n, 2, 4, SHARE, g)
    return pool.draw(bank, objects, views, g)


@pytest.mark.parametrize("bank", ["lr", "hr"])
def test_draws_have_zero_mean_and_unit_variance(stage, bank):
    drawn = draw(LatentPool(stage, None, torch.device("cpu"), "fp32"), bank)
    assert drawn.mean((0, 1)).abs().max() < 0.1
    assert (drawn.std((0, 1)) - 1).abs().max() < 0.05
    assert not drawn.requires_grad


def test_encoding_on_the_fly_gives_the_cached_latents(stage, prepared, tmp_path):
    cached = draw(LatentPool(stage, None, torch.device("cpu"), "bf16"), n=32)
    (tmp_path / "weights.safetensors").write_bytes((stage / "weights.safetensors").read_bytes())
    assert (stage / FILE).exists() and not (tmp_path / FILE).exists()
    surfaces = SurfacePool(Split(prepared, "train"), torch.device("cpu"), occupancy=False)
    fresh = draw(LatentPool(tmp_path, surfaces, torch.device("cpu"), "bf16"), n=32)
    assert (fresh - cached).abs().mean() < 0.05


@pytest.mark.parametrize("bank", ["lr", "hr"])
def test_weights_that_are_cast_once_give_the_bits_of_those_cast_at_every_use(stage, prepared, bank):
    cpu = torch.device("cpu")
    pool = LatentPool(stage, SurfacePool(Split(prepared, "train"), cpu, occupancy=False), cpu, "bf16")
    once, kinds = draw(pool, bank, n=8), {p.dtype for p in pool.vae.parameters()}
    pool.vae, _ = load_vae(stage, cpu)
    assert torch.equal(draw(pool, bank, n=8), once) and torch.bfloat16 in kinds


def test_points_are_turned_in_full_precision_before_they_are_encoded_on_the_fly(stage, prepared, tmp_path, monkeypatch):
    (tmp_path / "weights.safetensors").write_bytes((stage / "weights.safetensors").read_bytes())
    surfaces = SurfacePool(Split(prepared, "train"), torch.device("cpu"), occupancy=False)
    pool, seen = LatentPool(tmp_path, surfaces, torch.device("cpu"), "bf16"), []
    encode = pool.vae.encode
    monkeypatch.setattr(pool.vae, "encode", lambda *cloud: seen.append(cloud[:2]) or encode(*cloud))
    objects, views = torch.arange(4), torch.full((4,), 3)
    pool.draw("lr", objects, views, torch.Generator().manual_seed(0))
    for given, true in zip(seen[0], surfaces.surface(objects, views), strict=True):
        assert torch.equal(given, true)


def test_latents_that_would_take_too_much_are_not_kept_and_are_still_standardised(
    prepared, tmp_path, monkeypatch, capsys
):
    params = resolve("mar3d", "full", "smoke").params
    params = {**params, "vae": {**params["vae"], "training": {**params["vae"]["training"], "steps": 5}}}
    assert cache_bytes(params["latent"], 10) == 10 * (4 + 16) * 2 * 4 * 2
    monkeypatch.setattr(latents, "CACHE_BYTES", 1)
    data = PreparedData(prepared, "procedural", "smoke")
    fit_vae(params, data, out=tmp_path, seed=0, device=torch.device("cpu"))
    assert "encoded as they are drawn" in capsys.readouterr().err and not (tmp_path / FILE).exists()
    assert "caches" not in read_json(tmp_path / "measured.json")
    surfaces = SurfacePool(Split(prepared, "train"), torch.device("cpu"), occupancy=False)
    drawn = draw(LatentPool(tmp_path, surfaces, torch.device("cpu"), "fp32"))
    assert (drawn.std((0, 1)) - 1).abs().max() < 0.3  # of one view an object of a few objects


@pytest.mark.parametrize(("name", "banks"), [("mar_lr", ["lr"]), ("mar_hr", ["lr", "hr"])])
def test_encoding_on_the_fly_counts_as_part_of_a_step_and_reading_the_cache_does_not(
    stage, prepared, tmp_path, monkeypatch, name, banks
):
    monkeypatch.setattr(latents, "CACHE_BYTES", 1)  # or the missing cache would be made
    params = dict(resolve("mar3d", "full", "smoke").params)
    params[name] = {**params[name], "training": {**params[name]["training"], "steps": 2}}
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/weights.safetensors").write_bytes((stage / "weights.safetensors").read_bytes())
    costs = {}
    for vae in (stage, tmp_path / "bare"):
        data, out = PreparedData(prepared, "procedural", "smoke"), tmp_path / f"{vae.name}-{name}"
        fit_mar(params, name, data, vae=vae, out=out, seed=0, device=torch.device("cpu"))
        costs[vae] = read_json(out / "costs.json")
    split = Split(prepared, "train")
    sizes = Sizes(points=split.drawn, image_size=split.image_size)
    encoding = params[name]["training"]["batch"] * sum(encoding_flops(params, bank, sizes) for bank in banks)
    assert costs[tmp_path / "bare"]["step_flops"] == costs[stage]["step_flops"] + encoding
    assert costs[tmp_path / "bare"]["training_flops"] == costs[stage]["training_flops"] + 2 * encoding


def test_a_training_makes_a_missing_cache_again_the_same_bytes(stage, prepared, tmp_path, capsys):
    assert read_json(stage / "measured.json")["caches"] == [FILE]
    params = dict(resolve("mar3d", "full", "smoke").params)
    params["mar_lr"] = {**params["mar_lr"], "training": {**params["mar_lr"]["training"], "steps": 3}}
    bare = tmp_path / "vae"
    bare.mkdir()
    (bare / "weights.safetensors").write_bytes((stage / "weights.safetensors").read_bytes())
    for vae, out in ((stage, "whole"), (bare, "again"), (bare, "kept")):
        data = PreparedData(prepared, "procedural", "smoke")
        fit_mar(params, "mar_lr", data, vae=vae, out=tmp_path / out, seed=0, device=torch.device("cpu"))
    assert capsys.readouterr().err.count("encoding the views again") == 1
    assert (bare / FILE).read_bytes() == (stage / FILE).read_bytes()
    weights = {(tmp_path / out / "weights.safetensors").read_bytes() for out in ("whole", "again", "kept")}
    assert len(weights) == 1


def test_a_torn_cache_is_one_sentence(stage, prepared, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes((stage / "weights.safetensors").read_bytes())
    (tmp_path / FILE).write_bytes((stage / FILE).read_bytes()[:-1])
    with pytest.raises(UserError, match="delete it, and it is made again"):
        kept_for(tmp_path, Split(prepared, "train"))


def test_a_cache_of_other_views_or_weights_is_made_again_and_never_read(stage, prepared, tmp_path, capsys):
    train, bare = Split(prepared, "train"), tmp_path / "vae"
    bare.mkdir()
    header, weights = load_weights(stage, torch.device("cpu"))
    save_weights(bare, {**weights, "scaling.lr.mean": weights["scaling.lr.mean"] + 1}, header)
    (bare / FILE).write_bytes((stage / FILE).read_bytes())  # of the stage's own weights
    assert kept_for(stage, train) and not kept_for(bare, train) and not kept_for(stage, Split(prepared, "val"))
    surfaces = SurfacePool(train, torch.device("cpu"), occupancy=False)
    make_again(bare, train, lambda: surfaces, torch.device("cpu"))
    assert "holds the latents.safetensors of other views" in capsys.readouterr().err
    assert kept_for(bare, train)
