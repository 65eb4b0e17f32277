"""MAR-3D: sizes of the paper, schedules, masks, guidance, the pyramid's sum, its start."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.layers.diffusion import Diffusion
from methods.mar3d.examples import augment
from methods.mar3d.mar import MaskedAutoregressive, build_mar, mask_ratio
from methods.mar3d.pyramid_vae import anchor_points, build_vae
from methods.mar3d.sampling import guidance, masked_after, sample
from methods.registry import resolve


def count(module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def small_mar(bank="lr") -> MaskedAutoregressive:
    params = resolve("mar3d", "full", "smoke").params
    torch.manual_seed(0)
    model = build_mar(params, bank, 32).eval()
    for parameter in model.head.parameters():  # leave the zero initialisation, or every test of z is vacuous
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def images(b=3):
    return torch.randint(0, 256, (b, 32, 32, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def test_parameter_counts_at_paper_scale():
    params = resolve("mar3d", "full", "paper").params
    with torch.device("meta"):
        mar, vae = build_mar(params, "lr", 512), build_vae(params["vae"], params["latent"])
    assert round(count(mar.encoder), 1) == 201.5
    assert round(count(mar.decoder), 1) == 201.5
    assert round(count(mar.head), 1) == 36.2
    assert round(count(vae.encoder) + count(vae.decoder)) == 170


def test_fourier_width_is_51():
    params = resolve("mar3d", "full", "paper").params
    with torch.device("meta"):
        assert build_vae(params["vae"], params["latent"]).fourier.width == 51


@pytest.mark.parametrize(
    "tokens, steps, first, last",
    [
        (256, 64, [1] * 10, [6, 7, 6, 6, 6]),
        (1024, 64, [1, 1, 1, 2, 3, 4, 4, 4, 5, 6], [25] * 5),
        (256, 16, [2, 3, 7, 8, 11, 13, 15, 16, 19, 20], [23, 23, 25, 24, 25]),
    ],
)
def test_cosine_schedule_by_hand(tokens, steps, first, last):
    new = (-np.diff([tokens, *masked_after(tokens, steps)])).tolist()
    assert new[: len(first)] == first and new[-5:] == last and sum(new) == tokens


@given(st.integers(1, 300), st.integers(1, 80), st.sampled_from(["cosine", "uniform"]))
def test_every_step_reveals_and_all_are_revealed(tokens, steps, schedule):
    left = [tokens, *masked_after(tokens, steps, schedule)]
    assert left[-1] == 0 and all(a > b for a, b in itertools.pairwise(left))
    assert len(left) == min(steps, tokens) + 1


@given(st.integers(0, 2**31))
def test_mask_ratio_stays_in_its_interval(seed):
    assert 0.7 <= mask_ratio(torch.Generator().manual_seed(seed), 0.7, 1.0) <= 1.0


def test_mask_ratio_has_the_mean_of_the_truncated_normal():
    g = torch.Generator().manual_seed(0)
    assert abs(np.mean([mask_ratio(g, 0.7, 1.0) for _ in range(4000)]) - 0.867) < 0.006


def test_guidance_schedules():
    known = {"masked": 64, "tokens": 256, "step": 2, "steps": 8}
    assert guidance("linear", 3.0, **known) == 1 + 2 * 0.75
    assert guidance("constant", 3.0, **known) == 3.0
    assert guidance("paper", 3.0, **known) == 0.75


def draw(model, params, low=None, seeds=(1, 2, 3), pictures=None):
    rngs = [np.random.default_rng(s) for s in seeds]
    return sample(model, images() if pictures is None else pictures, low, rngs=rngs, params=params)


def sampling(**changes):
    return {**resolve("mar3d", "full", "smoke").params["sampling"]["lr"], **changes}


def test_guidance_of_one_is_the_conditional_model():
    model = small_mar()
    plain = draw(model, sampling(guidance=1.0))
    # constant guidance of (almost) 1 runs both branches; their combination must be the conditional one
    torch.testing.assert_close(
        draw(model, sampling(guidance=1.0 + 1e-6, guidance_schedule="constant")), plain, rtol=1e-3, atol=1e-3
    )
    assert (draw(model, sampling(guidance=3.0)) - plain).abs().max() > 1e-2


def test_eq_9_as_printed_guides_at_scale_one_too():
    model = small_mar()
    printed = draw(model, sampling(guidance=1.0, guidance_schedule="paper"))  # weights s / S, below 1 until the end
    assert (printed - draw(model, sampling(guidance=1.0))).abs().max() > 1e-2


@pytest.mark.parametrize("ahead", [0, 700, 2**24])  # one step at a time, a few, all; in any order
def test_the_head_ahead_of_its_steps_is_the_head(ahead, monkeypatch):
    model, times = small_mar(), torch.tensor([0, 3, 500, 750, 999])
    monkeypatch.setattr("methods.mar3d.mar.AHEAD", ahead)
    g = torch.Generator().manual_seed(0)
    x, z = (torch.randn((2, n), generator=g) for n in (model.channels, model.head.condition.in_features))
    denoise = model.head.at(times, z)
    for step in (4, 3, 2, 1, 0, 3):
        torch.testing.assert_close(denoise(x, step), model.head(x, times[step].expand(2), z))


def test_an_object_does_not_depend_on_its_neighbours():
    model = small_mar()
    together = draw(model, sampling())
    alone = draw(model, sampling(), seeds=(2,), pictures=images()[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_null_branch_does_not_see_the_image():
    model = small_mar()
    nothing = torch.zeros(3, dtype=torch.bool)
    a, b = model.condition(images(), nothing), model.condition(images().flip(0), nothing)
    assert torch.equal(a, b)
    assert not torch.equal(model.condition(images(), ~nothing), a)


def test_prediction_ignores_the_values_of_masked_tokens():
    model, g = small_mar(), torch.Generator().manual_seed(0)
    latents = torch.randn((3, model.tokens, model.channels), generator=g)
    known = torch.tensor([[0], [1], [2]])
    buffer = model.condition(images(), torch.ones(3, dtype=torch.bool))
    changed = latents + 10
    rows = torch.arange(3)[:, None]
    changed[rows, known] = latents[rows, known]
    torch.testing.assert_close(model.predict(buffer, changed, known), model.predict(buffer, latents, known))
    moved = latents.clone()
    moved[rows, known] += 1
    assert (model.predict(buffer, moved, known) - model.predict(buffer, latents, known)).abs().max() > 1e-4


def test_hr_model_reads_the_low_tokens():
    model = small_mar("hr")
    g = torch.Generator().manual_seed(0)
    low = torch.randn((3, model.low_tokens, model.channels), generator=g)
    a, b = draw(model, sampling(), low), draw(model, sampling(), low + 1)
    assert a.shape == (3, model.tokens, model.channels) and (a - b).abs().max() > 1e-3


def test_training_loss_reaches_every_parameter():
    model = small_mar("hr").train()
    g = torch.Generator().manual_seed(0)
    latents = torch.randn((4, model.tokens, model.channels), generator=g)
    low = torch.randn((4, model.low_tokens, model.channels), generator=g)
    value, _ = model.loss(
        images(4),
        latents,
        low,
        generator=g,
        diffusion=Diffusion(1000),
        drop=0.5,
        mask={"low": 0.5, "high": 0.5},
        repeats=2,
    )
    value.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert not without


def test_augmented_condition_has_the_stated_variance():
    g = torch.Generator().manual_seed(0)
    x, noise = torch.randn((200000,), generator=g), torch.randn((200000,), generator=g)
    for t in (0.0, 0.5, 0.75):
        assert abs(augment(x, t, noise).var().item() - (t**2 + (1 - t) ** 2)) < 0.01


def small_vae(levels=(1, 4, 16)):
    params = resolve("mar3d", "full", "smoke").params
    torch.manual_seed(0)
    return build_vae({**params["vae"], "levels": levels}, params["latent"]).eval()


def cloud(n=64):
    g = torch.Generator().manual_seed(3)
    points = torch.randn((2, n, 3), generator=g)
    return points / points.norm(dim=-1, keepdim=True) * 0.8, points / points.norm(dim=-1, keepdim=True)


def test_banks_have_their_token_counts_and_levels_are_prefixes():
    vae, (points, normals) = small_vae(), cloud()
    assert vae.encode(points, normals, "lr").mean.shape == (2, 4, 4)
    assert vae.encode(points, normals, "hr").mean.shape == (2, 16, 4)
    # the coarsest level sees the first 64/16 = 4 points: moving the last point changes only the finest one
    single, moved = small_vae((16,)), points.clone()
    moved[:, -1] += 0.1
    torch.testing.assert_close(single.encode(points, normals, "lr").mean, single.encode(moved, normals, "lr").mean)
    assert (vae.encode(points, normals, "lr").mean - vae.encode(moved, normals, "lr").mean).abs().max() > 1e-6


def test_the_query_is_counted_once():
    vae, (points, normals) = small_vae(), cloud()
    with torch.no_grad():
        for block in vae.cross:  # cross-attention and MLP that add nothing: what is left must be the query itself
            for layer in (block.attention.out, block.mlp[2]):
                layer.weight.zero_()
                layer.bias.zero_()
    seen = []
    vae.encoder[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    vae.encode(points, normals, "lr")
    torch.testing.assert_close(seen[0][0], vae.queries["lr"])


def test_decoder_does_not_depend_on_the_order_of_latents_or_on_other_queries():
    vae, g = small_vae(), torch.Generator().manual_seed(0)
    latents, points = torch.randn((1, 16, 4), generator=g), torch.rand((1, 50, 3), generator=g) * 2 - 1
    logits = vae.occupancy(vae.decode(latents), points)
    permuted = vae.occupancy(vae.decode(latents[:, torch.randperm(16, generator=g)]), points)
    torch.testing.assert_close(permuted, logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.occupancy(vae.decode(latents), points[:, :7]), logits[:, :7])


@pytest.mark.parametrize("anchored", [True, False])
def test_anchored_queries_attend_near_their_anchors_and_others_do_not(anchored):
    params = resolve("mar3d", "full", "cpu").params
    params = {**params, "vae": {**params["vae"], "anchored": anchored}}
    torch.manual_seed(0)
    vae = build_vae(params["vae"], params["latent"]).eval()
    anchors = anchor_points(params["latent"]["tokens"]["hr"])
    points = torch.rand((1, 512, 3), generator=torch.Generator().manual_seed(1)) * 1.9 - 0.95
    with torch.no_grad():
        block, attention = vae.cross[0], vae.cross[0].attention
        features = vae.embed_points(torch.cat([vae.fourier(points), torch.zeros_like(points)], -1))
        keys, _ = block.keys(features)
        queries = attention.query(block.norm_query(vae.queries["hr"]))
        queries = queries.unflatten(-1, (attention.heads, -1)).transpose(0, 1)
        weight = (queries @ keys[0].transpose(1, 2) * queries.shape[-1] ** -0.5).softmax(-1).mean(0)
    distance = torch.cdist(anchors, points[0])
    nearer = ((weight * distance).sum(1).mean() / distance.mean()).item()
    assert nearer < 0.85 if anchored else nearer > 0.95


@pytest.mark.parametrize("n", [16, 64])
def test_anchor_points_are_spread_nearly_as_a_grid_would_be(n):
    points = anchor_points(n)
    assert points.abs().max() <= 0.95
    apart = torch.cdist(points, points).fill_diagonal_(torch.inf).min()
    assert apart > 0.7 * 1.9 / n ** (1 / 3)  # random points: about a third of that
