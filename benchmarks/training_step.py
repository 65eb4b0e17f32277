"""A training step of VAE, MAR-LR, MAR-HR and DiT against the same models written plainly; memory; growth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import lth14_mar, theory
from benchmarks.growth import Curve
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import cast, params_of, sizes_of, square_product, wait_of
from benchmarks.options import Options
from benchmarks.plain.training import fused_attention, torchs_optimisers, written_out_attention
from benchmarks.result import Equality, Outcome, Row, Target
from benchmarks.steps import Loss, Step, dit_step, hr_step, lr_step, vae_step
from methods.mar3d.mar import mask_ratio
from methods.training.flops import counted
from methods.training.optimiser import build_optimisers

SUMMARY = "one training step: loss, backward pass, clipping, optimisers; data at hand"
TOLERANCE, BF16, UPDATE = 1e-4, 0.2, 0.01
"""Of losses and gradients in float32; of bfloat16 beside it (a gradient of the VAE differs by 0.06 of the largest); of
updates, since Muon's products are of bfloat16."""
WANTED = 1.5
TRIED = (
    "Compiling the blocks: docs/log.md, `chunks of decoder queries, compilation, batched Muon`. Clipping all gradients"
    " by one call: `optimisers on a CPU`. Fewer FLOPs in Muon: `Muon's iterations on the Gram matrix`. Where the"
    " seconds go stands beside."
)
COMPARED = "loss and gradients in float32, relative"
ALONE = {"muon": "one matrix after another, AdamW not fused", "adamw": "AdamW not fused"}
"""What torch's own optimisers do, by the name of ours."""
Attention = Callable[[], AbstractContextManager]
"""A context in which attention goes another way."""
Optimisers = Callable[..., list[torch.optim.Optimizer]]
"""Makes optimisers, as `build_optimisers` does."""


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
        "`written plainly` is the same module, data, batch and precision, with the attention path that this project did"
        " not choose for the device, torch's own optimisers as they come and, for MAR, every token in the diffusion"
        " head. The other lines change one thing each. LTH14/mar's step has torch's own optimisers too.",
        "Losses and gradients are compared on the same draws, without dropout: the loss relative to itself, gradients"
        " by their largest difference over the largest magnitude of all; the larger of the two. Optimisers are compared"
        " by one update from the same gradients.",
        "Memory is what autograd keeps for the backward pass, each storage once, without parameters.",
    ))  # fmt: skip


def compared(step: Step, options: Options) -> list[Row]:
    """Rows of one stage: ours against written plainly, and against each single change."""
    other = written_out_attention if options.device == "cuda" else fused_attention
    attention = "written-out attention" if options.device == "cuda" else "fused attention"
    plain_loss = step.plain_loss or step.loss
    alone = ALONE[step.optimiser["name"]]
    variants: dict[str, tuple[Loss, Attention, str, Options, Optimisers]] = {
        "written plainly": (plain_loss, other, step.precision, options, torchs_optimisers),
        attention: (step.loss, other, step.precision, options, build_optimisers),
        alone: (step.loss, nullcontext, step.precision, options, torchs_optimisers),
        "float32": (step.loss, nullcontext, "fp32", options, build_optimisers),
    }
    if step.plain_loss:
        variants["all tokens enter the head"] = (
            step.plain_loss, nullcontext, step.precision, options, build_optimisers
        )  # fmt: skip
    equal = {
        name: Equality(COMPARED, difference(step, loss, attention, "fp32", options), TOLERANCE)
        for name, (loss, attention, *_) in variants.items()
        if name not in (alone, "float32")
    }
    equal[alone] = Equality("an update, norm of the difference over its own", update_error(step), UPDATE)
    low = difference(step, step.loss, nullcontext, step.precision, options)
    equal["float32"] = Equality(f"loss and gradients in {step.precision}, relative", low, BF16)
    ours = Whole(step, step.loss, nullcontext, step.precision, options)
    calls: dict[str, Callable[[], Any]] = {name: Whole(step, *way) for name, way in variants.items()}
    product = square_product(step.precision, options.device, quick=options.quick)
    times = interleaved(
        {"ours": ours, **calls, "product": product.call}, rounds=3 if options.quick else 9,
        seconds=1 if options.quick else 20, wait=wait_of(options.device),
    )  # fmt: skip
    limit = f"{product.told(counted(ours)[1], times['ours'], times['product'])}; {ours.parts()}"
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
                equality=equal[name],
                limit=f"{limit}; kept a sample: {memory}" if plain else "",
                targets=(Target("ratio", WANTED, gain.median),) if plain else (),
                tried=TRIED if plain else "",
            )
        )
    return rows


def _loss(loss: Loss, attention: Attention, precision: str, options: Options) -> Tensor:
    with attention(), cast(options, precision):
        return loss(torch.Generator().manual_seed(7))


def difference(step: Step, loss: Loss, attention: Attention, precision: str, options: Options) -> float:
    """By how much a loss and its gradients are apart from ours in float32, on the same draws and without dropout.

    The larger of both: the difference of the losses over ours, and the gradients' largest over their largest magnitude.
    """
    step.module.eval()
    ours, own = _with_gradients(step, step.loss, nullcontext, "fp32", options)
    theirs, other = _with_gradients(step, loss, attention, precision, options)
    step.module.train()
    pairs = (ours, theirs), (own, other)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in pairs)


def _with_gradients(
    step: Step, loss: Loss, attention: Attention, precision: str, options: Options
) -> tuple[Tensor, Tensor]:
    """A loss () and its gradients (parameters,), 0 where there is none; the module is left without."""
    trained = [p for p in step.module.parameters() if p.requires_grad]
    value = _loss(loss, attention, precision, options)
    found = torch.autograd.grad(value, trained, allow_unused=True, materialize_grads=True)
    return value.detach(), torch.cat([g.flatten() for g in found])


def update_error(step: Step, optimisers: Optimisers = torchs_optimisers) -> float:
    """Norm of the difference between an update by `optimisers` and ours, from equal gradients, over that of ours."""
    trained = [p for p in step.module.parameters() if p.requires_grad]
    before, updates = [p.detach().clone() for p in trained], []
    step.loss(torch.Generator().manual_seed(7)).backward()
    for build in (build_optimisers, optimisers):
        for optimiser in build(step.module, step.optimiser, 1e-3, step.edges):
            optimiser.step()
        updates.append(torch.cat([(p.detach() - start).flatten() for p, start in zip(trained, before, strict=True)]))
        with torch.no_grad():
            torch._foreach_copy_(trained, before)
    step.module.zero_grad(set_to_none=True)
    return float((updates[1] - updates[0]).norm() / updates[0].norm())


@dataclass
class Whole:
    """A whole step, on one generator that goes on; the weights change at rate 0, so all variants stay equal."""

    step: Step
    loss: Loss
    attention: Attention
    precision: str
    options: Options
    build: Optimisers = build_optimisers
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(8))

    def __post_init__(self) -> None:
        self.optimisers = self.build(self.step.module, self.step.optimiser, 0.0, self.step.edges)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = 0.0
        self.trained = [p for p in self.step.module.parameters() if p.requires_grad]

    def __call__(self) -> None:
        for _ in self.stages():
            pass

    def stages(self) -> Any:
        """The step in parts: gives the name of each when it is done."""
        with self.attention():
            with cast(self.options, self.precision):
                value = self.loss(self.generator)
            yield "loss"
            value.backward()
            yield "backward pass"
        nn.utils.clip_grad_norm_(self.trained, self.step.optimiser["clip"])
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        yield "clipping and optimisers"

    def parts(self, rounds: int = 5) -> str:
        """The share of each part, in words."""
        wait, taken = wait_of(self.options.device), {}
        for _ in range(rounds):
            before = perf_counter()
            for name in self.stages():
                wait()
                now = perf_counter()
                taken[name], before = taken.get(name, 0.0) + now - before, now
        return ", ".join(f"{name} {seconds / sum(taken.values()):.0%}" for name, seconds in taken.items())


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
        return Whole(theirs, loss, nullcontext, step.precision, options, torchs_optimisers)

    ours = Whole(step, step.loss, nullcontext, step.precision, options)
    return lth14_mar.training_row(step.module, params_of("mar3d", options), step.batch, taken, ours, TRIED, options)


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
    """Seconds of loss and backward pass as trained: of MAR-LR and DiT-LR against tokens, of the VAE against points.

    The theory is the growth of FLOPs by formula, and for the VAE that each point is looked at once a level.
    """
    size, tokens, points = sizes_of(options).image_size, (16, 32, 64, 128, 256), (512, 1024, 2048, 4096, 8192)
    if options.quick:
        tokens, points = (4, 8, 16, 24, 32), (64, 128, 256, 512, 1024)
    mar, dit = params_of("mar3d", options), params_of("dit", options)
    ratio = mask_ratio(torch.Generator().manual_seed(7), **mar["mar"]["mask"])  # what `_loss` draws first
    masked = {n: max(1, math.ceil(n * ratio)) for n in tokens}
    formula = "FLOPs by formula, benchmarks/theory.py"
    of_mar = [theory.mar_training(mar, n, masked[n], size) for n in tokens]
    of_dit = [theory.dit_training(dit, n, size) for n in tokens]
    of_vae = [float(n) for n in points]
    return (
        _curve("MAR-LR", "tokens", tokens, lambda n: lr_step(options, 4, n), of_mar, formula, options),
        _curve("DiT-LR", "tokens", tokens, lambda n: dit_step(options, 4, n), of_dit, formula, options),
        _curve("VAE", "surface points", points, lambda n: vae_step(options, 4, n), of_vae, "each by itself", options),
    )


def _curve(
    name: str, size: str, sizes: tuple[int, ...], build: Callable[[int], Step], expected: Sequence[float],
    why: str, options: Options,
) -> Curve:  # fmt: skip
    """expected: what the theory says of each size, up to a factor."""

    def backward(step: Step) -> None:
        _loss(step.loss, nullcontext, step.precision, options).backward()

    steps = {n: build(n) for n in sizes}
    calls = {n: partial(backward, step) for n, step in steps.items()}
    times = interleaved(calls, rounds=5, seconds=1 if options.quick else 8, wait=wait_of(options.device))
    costs = tuple(spread(times[n]) for n in sizes)
    precision = steps[sizes[0]].precision
    return Curve(f"{name}, batch 4, {precision}", size, "s", sizes, costs, None, why, expected=tuple(expected))
