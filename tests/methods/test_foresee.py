"""What a plan says, against closed forms: FLOPs, kept activations, moments, hours; and each method's made-up step."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import UserError
from methods.contract import Sizes, Step
from methods.foresee import measure, totals
from methods.foresee.cards import card_of, get_card, load_cards, utilisation
from methods.foresee.data import foresee_data, objects_of, on_device, views_of
from methods.foresee.measure import matrix_rate, run_steps
from methods.foresee.sizes import configuration, settings_of, sizes_of
from methods.foresee.table import as_csv, as_text
from methods.foresee.totals import ForeseenStage, foresee, foresee_kept, made_up_step
from methods.foresee.trace import Traced, trace
from methods.layers.attention import SelfAttention
from methods.mar3d import foresee as mar3d
from methods.mar3d.sampling import sample
from methods.registry import load_methods, resolve
from methods.run import make_method
from methods.specs import parse_setting
from methods.training.flops import counted
from tests.methods.trained import STAGES

B, N, WIDTH, HIDDEN = 3, 5, 16, 32
ADAMW = {"name": "adamw", "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.0, "clip": 1.0, "ema": 0.9}
TINY = Sizes(points=64, image_size=32)


def mlp_step(precision="fp32", optimiser=ADAMW, draws=None, device="meta") -> Step:
    """Linear, SiLU, Linear on inputs (B, N, WIDTH) that need no gradient."""
    with torch.device(device):
        module = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, WIDTH))

    def loss(rows=B):
        return module(torch.zeros(rows, N, WIDTH, device=device)).sum()

    training = {"steps": 10, "batch": B, "lr": 1e-3, "precision": precision}
    return Step(module, draws(loss) if draws else {"step": (1.0, loss)}, training, optimiser)


WEIGHTS = 2 * WIDTH * HIDDEN
PARAMETERS = WEIGHTS + WIDTH + HIDDEN


def test_a_step_is_its_matrix_products():
    row = 2 * WIDTH * HIDDEN  # of one layer
    # Forward, gradients of both layers' weights, and of the second layer's input alone.
    assert trace(mlp_step()).flops == B * N * row * (2 + 2 + 1)


def test_draws_count_by_their_share_and_the_largest_fills_the_memory():
    one, three = (
        trace(mlp_step()),
        trace(mlp_step(draws=lambda loss: {"one": (0.25, loss), "three": (0.75, lambda: loss(3 * B))})),
    )
    assert three.flops == one.flops * (0.25 + 0.75 * 3)
    assert three.activations == 3 * one.activations


def test_weights_gradients_moments_and_average():
    traced = trace(mlp_step())
    assert traced.parameters == PARAMETERS
    assert traced.weights == traced.gradients == traced.average == 4 * PARAMETERS
    assert traced.moments == pytest.approx(8 * PARAMETERS, abs=100)  # two moments, and a step count for each tensor
    muon = trace(mlp_step(optimiser={**ADAMW, "name": "muon", "adamw_lr": 1e-3, "momentum": 0.95, "ns_steps": 5}))
    assert muon.moments == pytest.approx(4 * WEIGHTS + 8 * (PARAMETERS - WEIGHTS), abs=100)


def test_muons_products_count_and_adamw_has_none():
    """Five Newton-Schulz iterations on each matrix, as (short, long): x x^T, its square, and their product with x."""
    short, long = sorted((WIDTH, HIDDEN))
    iteration = 2 * short**2 * long + 2 * short**3 + 2 * short**2 * long
    muon = trace(mlp_step(optimiser={**ADAMW, "name": "muon", "adamw_lr": 1e-3, "momentum": 0.95, "ns_steps": 5}))
    assert muon.optimiser_flops == 2 * 5 * iteration
    assert trace(mlp_step()).optimiser_flops == 0


def test_activations_are_what_the_backward_pass_needs():
    # The input of each layer and of the SiLU; weights are no activations.
    assert trace(mlp_step()).activations == 4 * B * N * (WIDTH + HIDDEN + HIDDEN)
    # Under bf16: inputs of the layers and of the SiLU in two bytes, and a bf16 copy of each weight that a product needs
    # again: of the second layer only, since the input needs no gradient.
    assert trace(mlp_step("bf16")).activations == 2 * B * N * (WIDTH + HIDDEN + HIDDEN) + 2 * WIDTH * HIDDEN


def test_meta_keeps_what_a_real_run_keeps():
    assert trace(mlp_step(device="meta")).activations == trace(mlp_step(device="cpu")).activations


def attention_step(n: int, precision: str) -> Step:
    with torch.device("meta"):
        module = SelfAttention(64, 2)
        x = torch.zeros(1, n, 64)
    training = {"steps": 1, "batch": 1, "lr": 1e-3, "precision": precision}
    return Step(module, {"step": (1.0, lambda: module(x).sum())}, training, ADAMW)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fused_attention_keeps_no_matrix(precision):
    one, two, four = (trace(attention_step(n, precision)).activations for n in (256, 512, 1024))
    assert four - two == 2 * (two - one)  # an attention matrix would make it four times


def test_attention_of_the_backward_pass_computes_the_scores_again():
    one, two, four = (trace(attention_step(n, "bf16")).flops for n in (256, 512, 1024))
    products = 2 * 64 * 256**2  # of one n x n product at n = 256
    # Second difference of the part that is quadratic in n: two products forward, five backward.
    assert (four - two) - 2 * (two - one) == 7 * products * (16 - 4 - 2 * (4 - 1))


@pytest.mark.parametrize("setting, stage", STAGES)
def test_made_up_steps_are_those_of_the_stage(setting, stage):
    """The same parameters and forward FLOPs on meta and on a CPU; the backward pass of attention differs."""
    spec = resolve(*setting.split("/"), "smoke").stage(stage)
    steps = {d: made_up_step(spec, "smoke", TINY, batch=2, device=d) for d in ("meta", "cpu")}
    name = list(steps["meta"].draws)[-1]
    assert counted(steps["meta"].draws[name][1])[1] == counted(steps["cpu"].draws[name][1])[1] > 0
    assert sum(share for share, _ in steps["meta"].draws.values()) == pytest.approx(1)
    traced = trace(steps["meta"])
    assert traced.parameters == sum(p.numel() for p in steps["cpu"].module.parameters())
    assert traced.gradients == traced.weights  # what no draw reaches would never be trained


def test_seconds_and_flops_are_of_the_same_mixture_of_steps(monkeypatch):
    now = 0.0

    def draws(loss):
        def lasting(seconds, rows):
            def step():
                nonlocal now
                now += seconds
                return loss(rows)

            return step

        return {"rare": (0.25, lasting(8.0, 2 * B)), "often": (0.75, lasting(4.0, B))}

    monkeypatch.setattr(measure.time, "perf_counter", lambda: now)
    step = mlp_step(draws=draws, device="cpu")
    for repeats in (0, 1, 3):
        taken = run_steps(step, torch.device("cpu"), repeats=repeats)
        assert (taken.seconds, taken.samples_per_second) == (5.0, B / 5)
        assert taken.flops == pytest.approx(1.25 * trace(mlp_step()).flops)


def test_blocks_are_compiled_after_the_counted_steps_and_before_the_timed_ones(monkeypatch):
    done = []
    monkeypatch.setattr(measure, "compile_blocks", lambda module: done.append("compile"))
    draws = lambda loss: {name: (0.5, lambda name=name: done.append(name) or loss()) for name in "ab"}  # noqa: E731
    run_steps(mlp_step(draws=draws, device="cpu"), torch.device("cpu"), repeats=1, compiled=True)
    assert done == ["a", "b", "compile", "a", "b", "a", "b"]


@pytest.mark.parametrize("setting, stage", [STAGES[0], STAGES[5]])
def test_a_real_step_takes_the_flops_that_are_foreseen(setting, stage):
    spec = resolve(*setting.split("/"), "smoke").stage(stage)
    taken = run_steps(made_up_step(spec, "smoke", TINY, batch=2, device="cpu"), torch.device("cpu"), repeats=1)
    assert taken.seconds > 0 and taken.samples_per_second == pytest.approx(2 / taken.seconds)
    assert abs(taken.loss) < 100
    foreseen = trace(made_up_step(spec, "smoke", TINY, batch=2, device="meta")).flops
    assert taken.flops == pytest.approx(foreseen, rel=0.15)  # a CPU's attention keeps its scores


def test_the_rate_of_matrix_products_is_their_flops_over_their_time():
    cpu = torch.device("cpu")
    small, large = (matrix_rate(cpu, "fp32", side=side, repeats=3) for side in (2, 256))
    assert 1e4 < small < large < 1e14  # small products wait for their call


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_inputs_are_made_up_on_the_gpu():
    device = torch.device("cuda")
    assert mar3d.normal((2, 3), torch.Generator().manual_seed(0), device).device.type == "cuda"
    name = torch.cuda.get_device_name().lower()
    published = next((card.tflops for key, card in load_cards().items() if key in name), float("inf"))
    assert 1 < matrix_rate(device, "bf16") / 1e12 < 1.05 * published


def test_the_configured_batch_and_steps_stand_in_a_step():
    plan = resolve("mar3d", "full", "paper")
    for stage, batch in (("vae", 32), ("mar_lr", 32), ("mar_hr", 8)):
        step = made_up_step(plan.stage(stage), "paper", sizes_of(configuration("paper")), batch=None, device="meta")
        assert step.training["batch"] == batch
        assert (
            step.training["steps"]
            == (plan.params["vae"] if stage == "vae" else plan.params[stage])["training"]["steps"]
        )


def test_without_a_cache_of_latents_the_frozen_vae_runs_in_every_step():
    spec = resolve("mar3d", "full", "smoke").stage("mar_hr")
    cached = trace(made_up_step(spec, "smoke", TINY, batch=2, device="meta"))
    params = {**resolve("mar3d", "full", "smoke").params}
    params["latent"] = {**params["latent"], "cache": False}
    encoded = trace(mar3d.mar_step(params, "hr", TINY, batch=2, device="meta"))
    both = sum(mar3d.encoding_flops(params, bank, TINY) for bank in ("lr", "hr"))
    assert encoded.flops == pytest.approx(cached.flops + 2 * both)
    assert encoded.frozen > 0 == cached.frozen and encoded.parameters == cached.parameters


@pytest.mark.parametrize("setting, stage", [("mar3d/full", "mar_lr"), ("dit/cascade", "dit_lr")])
def test_the_frozen_encoders_of_the_paper_are_in_the_step(setting, stage):
    spec = resolve(*setting.split("/"), "paper").stage(stage)
    step = made_up_step(spec, "paper", sizes_of(configuration("paper")), batch=1, device="meta")
    frozen = {m.config.model_type: m for m in step.frozen if hasattr(m, "config")}
    assert set(frozen) == {"clip_vision_model", "dinov2"}
    width, tokens = 1024, 16**2 + 1
    outside = 3 * 14**2 * width + width + tokens * width + 4 * width  # patches, class token, positions, two norms
    blocks = 24 * (12 * width**2 + 13 * width)
    assert sum(p.numel() for p in frozen["clip_vision_model"].parameters()) == outside + blocks


@pytest.mark.parametrize("setting, stage", [("mar3d/full", "mar_lr"), ("dit/cascade", "dit_lr")])
def test_a_step_behind_frozen_encoders_runs_without_their_weights(setting, stage, monkeypatch):
    monkeypatch.setattr("methods.layers.clip_dinov2.require", lambda sources: pytest.fail("asked for weights"))
    plan = resolve(*setting.split("/"), "smoke")
    encoder = resolve("mar3d", "full", "paper").params["image_encoder"]
    small = {"width": 16, "depth": 1, "heads": 2}
    behind = {**encoder["clip_dinov2"], "clip": encoder["clip_dinov2"]["clip"] | small, "size": 28}
    behind["dino"] = encoder["clip_dinov2"]["dino"] | small
    method = make_method(plan.method, {**plan.params, "image_encoder": {**encoder, "clip_dinov2": behind}})

    def step(device: str) -> Step:
        return method.step_of(stage, TINY, upstream={"vae": plan.stage("vae").params}, batch=2, device=device)

    taken = run_steps(step("cpu"), torch.device("cpu"), repeats=1)
    assert 0 < taken.loss < 100
    assert taken.flops == pytest.approx(trace(step("meta")).flops, rel=0.15)  # a CPU's attention keeps its scores


@pytest.mark.parametrize(
    "name, guidance",
    [("lr", (3.0, "linear")), ("hr", (1.0, "linear")), ("hr", (3.0, "linear")), ("lr", (1.0, "paper"))],
)
def test_sampling_is_counted_as_it_is_done(name, guidance):
    params = resolve("mar3d", "full", "smoke").params
    settings = {**params["sampling"][name], "diffusion_steps": 3}
    settings |= dict(zip(("guidance", "guidance_schedule"), guidance, strict=True))
    with mar3d.META:
        model = mar3d.build_mar(params, name, 32).eval().requires_grad_(False)
        images = torch.zeros((1, 32, 32, 4), dtype=torch.uint8)
        low = torch.zeros((1, model.low_tokens, model.channels)) if model.low_tokens else None
    rngs = [np.random.default_rng(0)]
    _, expected = counted(lambda: sample(model, images, low, rngs=rngs, params=settings))
    assert mar3d.sampling_flops(params, name, settings, TINY) == pytest.approx(expected, rel=1e-9)


def test_a_dense_grid_asks_at_every_node_and_a_fine_one_near_the_ball():
    assert mar3d.ball_queries(cells=16, coarsest=16) == 17**3
    asked = mar3d.ball_queries(cells=64, coarsest=16)
    assert 17**3 < asked < 65**3 / 3


def test_hours_follow_from_flops_and_the_stated_share():
    card = get_card("h100")
    stages, generations = foresee([("mar3d", "no_mar_hr")], "smoke", TINY, card, 0.5)
    for stage in stages:
        flops = (stage.traced.flops + stage.traced.optimiser_flops) * stage.steps
        assert stage.gpu_hours == pytest.approx(flops / (card.tflops * 1e12 * 0.5) / 3600)
        assert stage.samples == stage.steps * stage.batch
    (made,) = generations
    assert made.seconds == pytest.approx(sum(made.flops.values()) / (card.tflops * 1e12 * 0.5))
    assert "2 cards" in as_text(stages, generations, card, 2, 0.5)


def test_of_cards_that_share_a_training_each_takes_its_part_of_the_batch():
    """What is held stays; activations and products go with the samples, updates with the cards."""
    card, settings = get_card("h100"), [("mar3d", "no_mar_hr")]
    (alone, _), (shared, _) = (foresee(settings, "smoke", TINY, card, 0.5, gpus=gpus) for gpus in (1, 4))
    for one, four in zip(alone, shared, strict=True):
        assert (four.batch, four.steps, four.samples) == (one.batch, one.steps, one.samples)
        whole, part = one.traced, four.traced
        for held in ("weights", "gradients", "moments", "average", "parameters"):
            assert getattr(part, held) == getattr(whole, held)
        copies = 2 * whole.parameters  # of weights, in bf16
        assert part.activations <= whole.activations / 4 + copies and part.memory < whole.memory
        assert four.step_flops == pytest.approx(one.step_flops, rel=0.01)  # but for work on the queries alone
        assert four.flops == pytest.approx((four.step_flops + 4 * whole.optimiser_flops) * one.steps)
    text = as_text(shared, [], card, 4, 0.5)
    assert "fewer than 4 samples a card" in text and "lower bound" in text  # batches of 8
    assert "memory is of each of 4 cards" in text and "memory is of each" not in as_text(alone, [], card, 1, 0.5)
    with pytest.raises(
        UserError, match="--gpus is 3, and the batch of vae is 8: give a number of cards that divides it"
    ):
        foresee(settings, "smoke", TINY, card, 0.5, gpus=3)


def test_a_batch_in_pieces_takes_the_memory_of_one_and_the_flops_of_all(monkeypatch):
    def stage():
        return foresee([("vae_study", "triple_hr")], "smoke", TINY, get_card("h100"), 0.5)[0][0]

    whole = stage()
    plan = resolve("vae_study", "triple_hr", "smoke")
    monkeypatch.setitem(plan.params, "hardware", {**plan.params["hardware"], "device_batch": 4})
    monkeypatch.setattr(totals, "fitting_variant", lambda *_: "triple_hr")
    halved = stage()
    copies = 2 * whole.traced.parameters  # of weights, in bf16
    assert halved.traced.activations <= whole.traced.activations / 2 + copies
    assert halved.flops == pytest.approx(whole.flops, rel=0.01) and halved.batch == whole.batch


START = 20.0
"""Seconds of a process to import, to start CUDA and to end; a guess."""
EXTRACTION = 0.063
"""Seconds of a mesh of 128 cells beside the network's: 29 % of 0.217 s, the benchmark `extraction` on an AMD EPYC."""


def test_table_2_and_the_dit_cascade_take_one_h100_45_minutes_at_gpu():
    """Of a card that reaches a quarter of its peak, with what its processes do beside their steps."""
    config = configuration("gpu")
    settings = [parse_setting(name) for name in [*config["table2"]["settings"], "dit/cascade"]]
    trained = {stage.folder_name: stage.name for s in settings for stage in resolve(*s, "gpu").stages}
    times = Counter(trained.values())
    assert times == {"vae": 2, "mar_lr": 3, "mar_hr": 4, "dit_lr": 1, "dit_hr": 1}
    # No ablation's stage takes more than that of the full model, so one of each is counted.
    stages, generations = foresee(
        [("mar3d", "full"), ("dit", "cascade")], "gpu", sizes_of(config), get_card("h100"), 0.25
    )
    training = sum(60 * stage.gpu_hours * times[stage.stage.split(".")[1].split("-")[0]] for stage in stages)
    objects = config["datasets"]["procedural"]["counts"]["test"]
    generation = len(settings) * objects * (max(made.seconds for made in generations) + EXTRACTION) / 60
    counts = objects_of(config, "procedural", None)
    views = views_of(config, counts)["train"]
    beside = foresee_data(config, "procedural", counts, *foresee_kept([("mar3d", "full")], "gpu", views)).beside
    params, reached = resolve("mar3d", "full", "gpu").params, 0.25 * get_card("h100").tflops * 1e12
    encode = sum(mar3d.encoding_flops(params, bank, sizes_of(config)) for bank in ("lr", "hr")) * views / reached
    vaes, generators = times["vae"], len(trained) - times["vae"]
    # Latents go from the card to the host, back for their moments, and to the disk.
    reading = vaes * (beside["surfaces"] + encode + 3 * beside["latents"])
    reading += generators * (beside["images"] + beside["latents"])
    processes = (len(trained) + len(settings)) * START
    print(
        f"{training:.1f} training, {generation:.1f} generation, {reading / 60:.1f} reading, {processes / 60:.1f} starts"
    )
    assert 10 < training + generation + (reading + processes) / 60 < 45
    assert max(stage.traced.memory for stage in stages) < 30e9  # of 80 GB, beside the data: test_foresee_data.py


def test_a_shared_stage_stands_once_with_all_who_use_it():
    names = ["mar3d/full", "mar3d/no_mar_hr", "dit/dit_lr", "retrieval/full", "ground_truth/full"]
    stages, generations = foresee(map(parse_setting, names), "smoke", TINY, get_card("a100"), 0.4)
    by_name = {s.stage.split("-")[0]: s for s in stages}
    assert list(by_name) == ["mar3d.vae", "mar3d.mar_lr", "mar3d.mar_hr", "dit.dit_lr", "retrieval.index"]
    assert by_name["mar3d.vae"].users == ("mar3d/full", "mar3d/no_mar_hr", "dit/dit_lr")
    assert by_name["mar3d.mar_hr"].users == ("mar3d/full",)
    index = by_name["retrieval.index"]
    assert index.traced is None and "no step_of" in index.reason and index.gpu_hours == 0
    assert "retrieval has no step_of" in as_text(stages, generations, get_card("a100"), 1, 0.4)
    assert as_csv(stages).count("\n") == 1 + len(stages)


def test_a_stage_that_does_not_fit_the_card_is_marked():
    traced = Traced(1, 0, 1.0, *[10 * 10**9] * 6)
    text = as_text([ForeseenStage("s", ("m/v",), "", traced, 1, 1, 1e12)], [], get_card("rtx4090"), 1, 0.4)
    assert "60.0 !" in text and "more than the 24 GB" in text
    text = as_text([ForeseenStage("s", ("m/v",), "", traced, 1, 1, 1e12)], [], get_card("a100"), 1, 0.4)
    assert "!" not in text


def test_a_step_that_fits_the_card_but_not_beside_the_data_is_named():
    traced = Traced(1, 0, 1.0, *[8 * 10**9] * 6)  # 48 GB
    stage = ForeseenStage("s", ("m/v",), "", traced, 1, 1, 1e12)
    for data, named in ((0.0, False), (31e9, False), (33e9, True)):
        text = as_text([stage], [], get_card("a100"), 1, 0.4, data)
        assert ("33.0 GB of prepared data a step may not fit the 80 GB" in text and "memory_gb" in text) == named
    config = configuration("gpu")
    data = foresee_data(config, "procedural", {"train": 4000}, {}, 10)  # images take 25.7 GB
    assert on_device(data, 32e9) == data.device["surfaces"] and on_device(data, 4e9) == 4e9


def test_a_share_below_the_papers_batch_on_a_gpu_names_the_key():
    traced = Traced(1, 0, 1.0, *[1] * 6)
    eight, one = (ForeseenStage("s", ("m/v",), "", traced, 64, 1, 1e12, 8, own=own) for own in (16, 8))
    assert "`paper_gpus: 8` in methods/mar3d/config.yaml" in as_text([eight], [], get_card("h100"), 8, 0.4)
    assert "paper_gpus" not in as_text([one], [], get_card("h100"), 8, 0.4)
    stages, _ = foresee([("mar3d", "no_mar_hr")], "smoke", TINY, get_card("h100"), 0.5, gpus=2)
    assert {stage.own for stage in stages} == {0}  # of the scale `paper` alone


def test_every_trained_stage_of_a_torch_method_can_be_made_up():
    """Controls and templates may lack the hook; a method that is trained for days must have it."""
    for name in ("mar3d", "dit", "vae_study"):
        spec = load_methods()[name]
        method = make_method(spec, resolve(name, spec.first_variant, "smoke").params)
        assert hasattr(method, "step_of") and hasattr(method, "object_flops")


def test_cards_are_named_and_plausible():
    for name, card in load_cards().items():
        assert card.name == name and 50 < card.tflops < 5000 and 8 <= card.memory_gb < 1000
    with pytest.raises(UserError, match="did you mean 'h100'"):
        get_card("h10")


def test_settings_of_a_scale_are_those_of_its_tables():
    names = {"/".join(pair) for pair in settings_of(configuration("paper"))}
    assert {"mar3d/full", "mar3d/no_pyramid", "dit/cascade", "vae_study/pyramid_hr", "ground_truth/full"} <= names
    assert sizes_of(configuration("paper")) == Sizes(points=16384, image_size=512)
    with pytest.raises(UserError, match="no scale 'papr'"):
        configuration("papr")
    with pytest.raises(UserError, match="share of the card's peak"):
        foresee([], "smoke", TINY, get_card("h100"), 40)


def test_a_devices_name_says_its_card():
    names = {"NVIDIA H100 80GB HBM3": "h100", "NVIDIA A100-SXM4-80GB": "a100", "NVIDIA GeForce RTX 4090": "rtx4090"}
    names |= {"NVIDIA A100 80GB PCIe": "a100", "NVIDIA L40S": "l40s", "NVIDIA H200": "h200"}
    assert {device: card_of(device).name for device in names} == names
    for device in ("NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "Tesla T4", "AMD EPYC"):
        assert card_of(device) is None


def test_utilisation_is_flops_over_seconds_over_the_peak_of_all_processes():
    device = {"kind": "cuda", "name": "NVIDIA H100 80GB HBM3"}
    measured = {"step_flops": 989e12, "step_seconds": 2.0, "dtype": "bf16", "processes": 2}
    assert utilisation(device, measured) == {"card": "h100", "share": 0.25}
    for other in ({"dtype": "fp32"}, {"dtype": None}):
        assert utilisation(device, measured | other) is None
    assert utilisation({"kind": "cpu", "name": "AMD EPYC"}, measured) is None
    assert utilisation(device, {"dtype": "bf16"}) is None
