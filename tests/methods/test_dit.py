"""DiT: a start at zero, guidance, rectified flow, the parameters and FLOPs of MAR, what is shared with it."""

import numpy as np
import pytest
import torch

from core.randomness import seed_of
from methods.contract import PreparedData, Sizes
from methods.dit import method as dit
from methods.dit.dit import TIMES, DiT, build_dit
from methods.dit.flow import euler, flow_loss, shifted
from methods.dit.foresee_matching import networks, sampling_flops, training_flops
from methods.dit.method import MAR, training_of
from methods.dit.objectives import diffusion_loss, velocity_loss
from methods.dit.sampling import guidance, sample
from methods.foresee.sizes import configuration, sizes_of
from methods.layers.diffusion import Diffusion
from methods.mar3d import method as mar
from methods.mar3d.examples import Batch
from methods.mar3d.vae_training import fit_vae
from methods.registry import get_method, resolve
from methods.specs import SCALES
from methods.training.draws import WHOLE

DIFFUSION = ("dit_lr", "dit_hr", "dit_hr_direct")
DESIGNS = ("cascade", "cascade_no_augmentation", "dit_lr", "dit_hr_direct", "flow")
IMAGE_SIZE = 32


def sizes(scale: str) -> Sizes:
    return sizes_of(configuration(scale))


def params(variant="cascade", scale="smoke", **dit):
    found = resolve("dit", variant, scale).params
    return {**found, "dit": {**found["dit"], **dit}}


def model(stage="dit_lr", *, trained=True, **dit) -> DiT:
    torch.manual_seed(0)
    built = build_dit(params(**dit), stage, IMAGE_SIZE).eval()
    if trained:  # leave the zero initialisation, or every test of the output is vacuous
        for parameter in built.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.2)
    return built


def batch(network: DiT, b=3) -> Batch:
    g = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (b, IMAGE_SIZE, IMAGE_SIZE, 4), dtype=torch.uint8, generator=g)
    latents = torch.randn((b, network.tokens, network.channels), generator=g)
    low = torch.randn((b, network.low_tokens, network.channels), generator=g) if network.low_tokens else None
    return Batch(images, latents, low)


def keys(network: DiT, given: Batch, keep=True):
    mask = torch.full((len(given.images),), keep)
    return network.keys(network.condition(given.images, mask), given.low)


def draw(network, given, stage="dit_lr", seeds=(1, 2, 3), **changes):
    rngs = [np.random.default_rng(seed) for seed in seeds]
    settings = {**params()["sampling"][stage], **changes}
    return sample(network, given.images, given.low, rngs=rngs, params=settings)


@pytest.mark.parametrize("stage", MAR)
def test_untrained_network_returns_zero(stage):
    network = model(stage, trained=False)
    given = batch(network)
    output = network(given.latents, torch.tensor([0, 500, 999]), keys(network, given))
    assert output.shape == (3, network.tokens, network.channels * (1 if stage == "flow" else 2))
    assert not output.any()


@pytest.mark.parametrize("stage", MAR)
def test_output_depends_on_time_image_latents_and_low_tokens(stage):
    network = model(stage)
    given, t = batch(network), torch.tensor([100, 100, 100])

    def output(latents=given.latents, t=t, keep=True, **changes):
        return network(latents, t, keys(network, given._replace(**changes), keep))

    with torch.no_grad():
        base = output()
        others = {
            "latents": output(given.latents + 1), "time": output(t=t + 300),
            "image": output(images=given.images.flip(0)), "null": output(keep=False),
        }  # fmt: skip
        if given.low is not None:
            others["low"] = output(low=given.low + 1)
        assert all((other - base).abs().max() > 1e-3 for other in others.values())
        torch.testing.assert_close(output(images=given.images.flip(0), keep=False), others["null"])


def test_without_slot_positions_the_places_are_alike():
    for slots in (True, False):
        network = model(slot_positions=slots)
        given, order = batch(network), torch.tensor([2, 0, 3, 1])
        with torch.no_grad():
            pair = keys(network, given)
            t = torch.tensor([5, 5, 5])
            moved, base = network(given.latents[:, order], t, pair), network(given.latents, t, pair)[:, order]
        assert torch.allclose(moved, base, atol=1e-4) is not slots


def test_guidance_weights():
    t = torch.tensor([0, TIMES // 4, TIMES])
    assert guidance("linear", 3.0, t).tolist() == [3.0, 2.5, 1.0]
    assert guidance("constant", 3.0, t).tolist() == [3.0, 3.0, 3.0]
    with pytest.raises(ValueError, match="linear or constant"):
        guidance("cosine", 3.0, t)


@pytest.mark.parametrize("stage", ["dit_hr", "flow"])
def test_guidance_of_one_is_the_conditional_branch(stage):
    network = model(stage)
    given = batch(network)
    plain = draw(network, given, stage, guidance=1.0)
    both = draw(network, given, stage, guidance=1.0 + 1e-6, guidance_schedule="constant")
    torch.testing.assert_close(both, plain, rtol=1e-3, atol=1e-3)
    assert (draw(network, given, stage, guidance=3.0) - plain).abs().max() > 1e-2


@pytest.mark.parametrize("stage", MAR)
def test_an_object_does_not_depend_on_its_neighbours(stage):
    network = model(stage)
    given = batch(network)
    one = Batch(*(None if part is None else part[1:2] for part in given))
    alone = draw(network, one, stage, seeds=(2,))
    torch.testing.assert_close(draw(network, given, stage)[1:2], alone, rtol=1e-3, atol=1e-3)


def test_ddim_of_a_perfect_denoiser_returns_the_data():
    network = model(trained=False)
    given, process = batch(network), Diffusion(TIMES, 20)
    x0 = given.latents.flatten(1)

    def forward(x, t, _):
        a = Diffusion(TIMES).alpha_bar[t][:, None]
        noise = ((x.flatten(1) - a.sqrt() * x0) / (1 - a).sqrt()).view_as(x)
        return torch.cat([noise, torch.zeros_like(noise)], -1)

    network.forward = forward
    drawn = draw(network, given, sampler="ddim", steps=process.steps, guidance=1.0)
    torch.testing.assert_close(drawn, given.latents, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (1, 3.0), (7, 3.0)])
def test_the_true_velocity_leads_straight_to_the_data(steps, shift):
    g = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn((2, 4, 3), generator=g) for _ in range(2))
    found = euler(lambda x, t: (x - x0) / t[:, None, None], noise, steps=steps, shift=shift)
    torch.testing.assert_close(found, x0, atol=1e-5, rtol=0)
    loss = flow_loss(lambda x, t: (x - x0) / t[:, None, None], x0, t=torch.tensor([0.2, 0.9]), noise=noise)
    torch.testing.assert_close(loss, torch.zeros(2), atol=1e-8, rtol=0)


def test_shift_moves_times_towards_the_noise_and_keeps_the_ends():
    assert shifted(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == [0.0, 0.75, 1.0]


@pytest.mark.parametrize("stage", MAR)
def test_one_batch_is_learnt_by_heart(stage):
    network = model(stage, trained=False).train()
    one, diffusion = batch(network, 1), Diffusion(TIMES)
    given = Batch(*(None if part is None else part.expand(16, *part.shape[1:]) for part in one))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)

    def loss(seed):
        g = torch.Generator().manual_seed(seed)
        if stage == "flow":
            return velocity_loss(network, given, shift=1.0, drop=0.0, generator=g)[0]
        return diffusion_loss(network, given, diffusion=diffusion, drop=0.0, generator=g)[0]

    with torch.no_grad():
        before = np.median([loss(-seed).item() for seed in range(1, 33)])
    for seed in range(150):
        optimiser.zero_grad()
        value = loss(seed)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    with torch.no_grad():
        after = np.median([loss(-seed).item() for seed in range(1, 33)])
    assert after < 0.5 * before


def test_the_loss_reaches_every_parameter():
    network = model("dit_hr").train()
    value, _ = diffusion_loss(
        network, batch(network, 8), diffusion=Diffusion(TIMES), drop=0.5, generator=torch.Generator().manual_seed(0)
    )
    value.backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stage", MAR)
def test_parameters_match_those_of_mar(stage, scale):
    def count(module):  # the image encoder is the same module in both
        return sum(p.numel() for n, p in module.named_parameters() if not n.startswith("image_encoder"))

    mar, dit = networks(params(scale=scale), stage, sizes(scale).image_size)
    assert count(dit) == pytest.approx(count(mar), rel=0.05)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stage", MAR)
def test_equal_training_flops_are_equal(stage, scale):
    (variant,) = (v for v in ("cascade", "dit_hr_direct", "flow") if stage in variants()[v].stages)
    matched = params(f"{variant}_equal_flops", scale)
    mar, dit = training_flops(matched, stage, sizes(scale))
    steps = training_of(matched, stage)["steps"]
    assert steps * dit == pytest.approx(matched[MAR[stage]]["training"]["steps"] * mar, rel=0.03)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stage", MAR)
def test_equal_generation_flops_are_equal(stage, scale):
    (variant,) = (v for v in ("cascade", "dit_hr_direct", "flow") if stage in variants()[v].stages)
    matched, theirs = params(f"{variant}_equal_time", scale), resolve("mar3d", "full", scale).params
    wanted, of_steps = sampling_flops(matched, theirs, stage, sizes(scale))
    assert of_steps(matched["sampling"][stage]["steps"]) == pytest.approx(wanted, rel=0.05)


def variants():
    return get_method("dit").variants


@pytest.mark.parametrize("scale", SCALES)
def test_a_design_is_matched_alike_wherever_it_stands(scale):
    for suffix in ("", "_equal_flops", "_equal_time"):
        cascade, naive, alone = (
            resolve("dit", f"{design}{suffix}", scale) for design in ("cascade", "cascade_no_augmentation", "dit_lr")
        )
        assert cascade.stage("dit_lr") == naive.stage("dit_lr") == alone.stage("dit_lr")  # trained once
        assert cascade.stage("dit_hr").key != naive.stage("dit_hr").key
        assert naive.params["mar_hr"]["augmentation"] == {"low": 0.0, "high": 0.0}
        assert naive.params["sampling"]["dit_hr"]["augmentation"] == 0.0
    for design in DESIGNS:
        plain, flops, time = (resolve("dit", f"{design}{s}", scale) for s in ("", "_equal_flops", "_equal_time"))
        assert time.stages == plain.stages and flops.params["sampling"] == plain.params["sampling"]
        own = {stage.key for stage in flops.stages if stage.owner == "dit"}
        assert own.isdisjoint({stage.key for stage in plain.stages})


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_no_size_of_its_own_is_mars(scale):
    plan, mar3d = resolve("dit", "cascade", scale), resolve("mar3d", "full", scale)
    assert plan.stage("vae") == mar3d.stage("vae")
    for section in get_method("dit").params_from["mar3d"]:
        assert plan.params[section] == mar3d.params[section]
    for stage in MAR:
        assert training_of(plan.params, stage) == mar3d.params[MAR[stage]]["training"]


@pytest.mark.parametrize("scale", SCALES)
def test_mar_at_hr_directly_is_no_part_of_other_variants(scale):
    assert [stage.name for stage in resolve("mar3d", "full", scale).stages] == ["vae", "mar_lr", "mar_hr"]
    direct = resolve("mar3d", "hr_direct", scale)
    assert [stage.name for stage in direct.stages] == ["vae", "mar_hr_direct"]
    training, lr = (direct.params[name]["training"] for name in ("mar_hr_direct", "mar_lr"))
    assert training["steps"] * training["batch"] == lr["steps"] * lr["batch"]


@pytest.mark.parametrize("stage", ["dit_lr", "dit_hr", "flow"])
def test_a_dit_is_drawn_the_batches_of_mar(prepared, tmp_path, monkeypatch, stage):
    settings, data = resolve("mar3d", "full", "smoke").params, PreparedData(prepared, "procedural", "smoke")
    short = {**settings["vae"], "training": {**settings["vae"]["training"], "steps": 1}}
    fit_vae({**settings, "vae": short}, data, out=tmp_path, seed=0, device=torch.device("cpu"))
    drawn = []

    def train(module, draw, loss, *, name, stream=None, seed, **_):
        generator = torch.Generator().manual_seed(seed_of("step", stream or name, seed, 0))
        drawn.append(draw(generator, WHOLE))
        raise StopIteration

    for module, method, own in ((mar, mar.Mar3D(settings), MAR[stage]), (dit, dit.LatentDiT(params()), stage)):
        monkeypatch.setattr(module, "train", train)
        with pytest.raises(StopIteration):
            method.fit(own, data, upstream={"vae": tmp_path}, out=tmp_path / own, seed=3)
    for ours, theirs in zip(*drawn, strict=True):
        assert (ours is None) == (theirs is None) and (ours is None or torch.equal(ours, theirs))
