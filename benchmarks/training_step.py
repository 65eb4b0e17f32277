"""A training step of VAE, MAR-LR, MAR-HR and DiT against the same models written plainly; memory; growth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import lth14_mar
from benchmarks.growth import Curve, slope
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import cast, images, matmul_rate, params_of, randomised, wait_of
from benchmarks.options import Options
from benchmarks.plain.training import all_tokens_loss, fused_attention, written_out_attention
from benchmarks.result import Equality, Outcome, Row, Target
from methods.dit.dit import TIMES, build_dit
from methods.dit.objectives import diffusion_loss
from methods.layers.diffusion import Diffusion
from methods.mar3d.examples import Batch
from methods.mar3d.mar import build_mar
from methods.mar3d.pyramid_vae import build_vae
from methods.training.flops import counted
from methods.training.optimiser import build_optimisers

SUMMARY = "one training step: loss, backward pass, clipping, optimisers; data at hand"
TOLERANCE = 1e-4
TRIED = (
    "Compiling the blocks (`hardware.compile`): 1.07x for the VAE and 1.00x for MAR-LR, after 75 and 39 s. Muon's"
    " matrix products, a quarter to a third of a step, for all matrices of a size at once: 12 to 28 % of Muon, so 4 to"
    " 8 % of a step, and left out. What is left is matrix products, at the share of the machine's rate beside."
)

Loss = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Step:
    """A stage's step. loss: ours. plain_loss: with all tokens in the head, where the stage has one."""

    name: str
    module: nn.Module
    batch: int
    precision: str
    loss: Loss
    plain_loss: Loss | None
    edges: tuple[str, ...]
    optimiser: Mapping[str, Any]


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    rows: list[Row] = []
    for build in (vae_step, lr_step, hr_step, dit_step):
        step = build(options)
        rows += compared(step, options)
        if build is lr_step:
            rows.append(_beside_lth14(options))
        del step
    return Outcome("training_step", tuple(rows), growth(options), (
        "`written plainly` is the same module, data, batch, precision and optimiser, with the attention path that this"
        " project did not choose for the device and, for MAR, every token in the diffusion head. The other lines change"
        " one thing each.",
        "Memory is what autograd keeps for the backward pass, each storage once, without parameters.",
    ))  # fmt: skip


# ---------------------------------------------------------------- steps on made-up data


def vae_step(options: Options, batch: int | None = None) -> Step:
    """The VAE on its HR bank."""
    params = params_of("mar3d", options)
    vae, latent, training = params["vae"], params["latent"], params["vae"]["training"]
    batch = batch or training["batch"]
    model = randomised(lambda: build_vae(vae, latent), "vae", device=options.device).train()
    generator, points = torch.Generator().manual_seed(5), 512
    queries = training["volume"] + training["near"]
    cloud, normals, where = (
        (torch.rand(batch, n, 3, generator=generator) * 2 - 1).to(options.device) for n in (points, points, queries)
    )
    labels = (where.norm(dim=-1) < 0.8).float()

    def loss(generator: torch.Generator) -> Tensor:
        shape = (batch, latent["tokens"]["hr"], latent["channels"])
        noise = torch.randn(shape, generator=generator).to(options.device)
        return model.loss(cloud, normals, where, labels, bank="hr", kl_weight=vae["kl_weight"], noise=noise)[0]

    return Step(
        "VAE",
        model,
        batch,
        training["precision"],
        loss,
        None,
        model.EDGES,
        params["optimiser"],
    )


def lr_step(options: Options, batch: int | None = None) -> Step:
    """MAR-LR."""
    return _mar_step("lr", options, batch, None)


def hr_step(options: Options, batch: int | None = None) -> Step:
    """MAR-HR."""
    return _mar_step("hr", options, batch, None)


def _mar_step(name: str, options: Options, batch: int | None, tokens: int | None) -> Step:
    params = params_of("mar3d", options)
    if tokens:
        params = {**params, "latent": {**params["latent"], "tokens": {**params["latent"]["tokens"], name: tokens}}}
    mar, training = params["mar"], params[f"mar_{name}"]["training"]
    batch = batch or training["batch"]
    data = _batch(params, name, batch, options)
    size = data.images.shape[1]
    model = randomised(lambda: build_mar(params, name, size), "mar", name, device=options.device).train()
    diffusion = Diffusion(model.noise_steps, device=options.device, prediction=model.prediction)
    settings = {
        "diffusion": diffusion,
        "drop": mar["condition_drop"],
        "mask": mar["mask"],
        "repeats": mar["diffusion_repeats"],
    }
    return Step(
        f"MAR-{name.upper()}",
        model,
        batch,
        training["precision"],
        lambda generator: model.loss(*data, generator=generator, **settings)[0],
        lambda generator: all_tokens_loss(model, *data, generator=generator, **settings),
        model.EDGES,
        params["optimiser"],
    )


def dit_step(options: Options, batch: int | None = None) -> Step:
    """DiT-LR."""
    params = params_of("dit", options)
    training = params["mar_lr"]["training"]
    batch = batch or training["batch"]
    data = _batch(params, "lr", batch, options)
    size = data.images.shape[1]
    model = randomised(lambda: build_dit(params, "dit_lr", size), "dit", device=options.device).train()
    diffusion = Diffusion(TIMES, device=options.device, prediction=model.prediction)

    def loss(generator: torch.Generator) -> Tensor:
        drop = params["mar"]["condition_drop"]
        return diffusion_loss(model, data, diffusion=diffusion, drop=drop, generator=generator)[0]

    return Step(
        "DiT-LR",
        model,
        batch,
        training["precision"],
        loss,
        None,
        model.EDGES,
        params["optimiser"],
    )


def _batch(params: Mapping[str, Any], name: str, batch: int, options: Options) -> Batch:
    latent, generator = params["latent"], torch.Generator().manual_seed(6)
    size = 32 if options.quick else 224 if options.scale == "paper" else 64
    target, low = (
        torch.randn(batch, latent["tokens"][bank], latent["channels"], generator=generator).to(options.device)
        for bank in (name, "lr")
    )
    return Batch(images(batch, size, options.device), target, low if name == "hr" else None)


# ---------------------------------------------------------------- measuring


def compared(step: Step, options: Options) -> list[Row]:
    """Rows of one stage: ours against written plainly, and against each single change."""
    other = written_out_attention if options.device == "cuda" else fused_attention
    attention = "written-out attention" if options.device == "cuda" else "fused attention"
    plain_loss = step.plain_loss or step.loss
    variants: dict[str, tuple[Loss, Callable[[], AbstractContextManager], str]] = {
        "written plainly": (plain_loss, other, step.precision),
        attention: (step.loss, other, step.precision),
        "float32": (step.loss, nullcontext, "fp32"),
    }
    if step.plain_loss:
        variants["all tokens enter the head"] = (step.plain_loss, nullcontext, step.precision)
    errors = {name: _error(step, loss, path) for name, (loss, path, _) in variants.items()}
    calls = {"ours": step_call(step, step.loss, nullcontext, step.precision, options)}
    calls |= {name: step_call(step, *variant, options) for name, variant in variants.items()}
    times = interleaved(
        calls, rounds=3 if options.quick else 9, seconds=1 if options.quick else 30, wait=wait_of(options.device)
    )
    rate = matmul_rate(step.precision, options.device, quick=options.quick)
    share = counted(calls["ours"])[1] / spread(times["ours"]).median / rate
    kept = {
        "ours": kept_bytes(lambda: _loss(step.loss, nullcontext, step.precision, options)),
        "written plainly": kept_bytes(lambda: _loss(plain_loss, other, step.precision, options)),
    }
    rows = []
    for name in variants:
        gain = ratios(times[name], times["ours"])
        plain = name == "written plainly"
        memory = ", ".join(f"{who} {size / step.batch / 2**20:.2f} MiB" for who, size in kept.items())
        rows.append(
            Row(
                f"{step.name}, batch {step.batch}, {step.precision}",
                "s",
                spread(times["ours"]),
                f"plain: {name}" if not plain else name,
                spread(times[name]),
                ratio=gain,
                equality=None if name == "float32" else Equality("loss in float32, relative", errors[name], TOLERANCE),
                limit=f"{share:.0%} of the measured matrix rate, {rate / 1e9:.0f} GFLOP/s; kept a sample: {memory}"
                if plain
                else "",
                targets=(Target("ratio", 1.5, gain.median),) if plain else (),
                tried=TRIED if plain else "",
            )
        )
    return rows


def _loss(loss: Loss, path: Callable[[], AbstractContextManager], precision: str, options: Options) -> Tensor:
    with path(), cast(options, precision):
        return loss(torch.Generator().manual_seed(7))


def _error(step: Step, loss: Loss, path: Callable[[], AbstractContextManager]) -> float:
    """Relative difference of the losses in float32 on the same draws, without dropout."""
    step.module.eval()
    with torch.no_grad():
        ours = step.loss(torch.Generator().manual_seed(7))
        with path():
            theirs = loss(torch.Generator().manual_seed(7))
    step.module.train()
    return float((ours - theirs).abs() / ours.abs().clamp(min=1e-12))


def step_call(
    step: Step, loss: Loss, path: Callable[[], AbstractContextManager], precision: str, options: Options
) -> Callable[[], None]:
    """A whole step, on one generator that goes on; the weights change, the work does not."""
    generator = torch.Generator().manual_seed(8)
    optimisers = build_optimisers(step.module, step.optimiser, 0.0, step.edges)  # at rate 0 all variants stay equal
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = 0.0
    trained = [p for p in step.module.parameters() if p.requires_grad]

    def call() -> None:
        with path():
            with cast(options, precision):
                value = loss(generator)
            value.backward()
        nn.utils.clip_grad_norm_(trained, step.optimiser["clip"])
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return call


class GivenTokens(nn.Module):
    """Stands for an encoder whose tokens (b, tokens, width) are at hand, as those of a frozen one are."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.register_buffer("value", torch.randn(1, tokens, width, generator=torch.Generator().manual_seed(9)))

    def forward(self, images: Tensor) -> Tensor:
        return self.value.expand(len(images), -1, -1)


def _beside_lth14(options: Options) -> Row:
    """MAR-LR's step without an image encoder, which LTH14/mar has not, beside LTH14/mar's."""
    step = lr_step(options)
    image = step.module.image_encoder
    step.module.image_encoder = GivenTokens(image.tokens, image.width).to(options.device)

    def taken(module: nn.Module, loss: Loss, edges: tuple[str, ...]) -> Callable[[], None]:
        theirs = replace(step, module=module, edges=edges)
        return step_call(theirs, loss, nullcontext, step.precision, options)

    ours = step_call(step, step.loss, nullcontext, step.precision, options)
    return lth14_mar.training_row(step.module, params_of("mar3d", options), step.batch, taken, ours, options)


def kept_bytes(loss: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of `loss()`, each storage once, parameters left out."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss()
    del value
    return sum(storages.values())


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds of MAR-LR's loss and backward pass against tokens; the theory is the growth of the counted FLOPs."""
    sizes = (4, 8, 16, 24, 32) if options.quick else (16, 32, 64, 128, 256)
    calls, flops = {}, []
    for tokens in sizes:
        step = _mar_step("lr", options, 4, tokens)

        def call(step: Step = step) -> None:
            _loss(step.loss, nullcontext, "fp32", options).backward()

        calls[tokens] = call
        flops.append(counted(call)[1])
    times = interleaved(calls, rounds=5, seconds=2 if options.quick else 20, wait=wait_of(options.device))
    costs = tuple(spread(times[tokens]) for tokens in sizes)
    theory = slope(sizes, flops)[0]
    return (Curve("MAR-LR, batch 4", "tokens", "s", sizes, costs, theory, "growth of the counted FLOPs"),)
