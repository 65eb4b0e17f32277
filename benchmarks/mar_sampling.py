"""MAR sampling against the plain loop: same noise, same samples, how much faster, and how it grows with tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks import lth14_mar
from benchmarks.growth import Curve, slope
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import cast, images, matmul_rate, params_of, randomised, wait_of
from benchmarks.options import Options
from benchmarks.plain import sampling as plain_sampling
from benchmarks.plain.sampling import Plain
from benchmarks.result import Equality, Outcome, Row, Target
from core.randomness import numpy_rng
from methods.mar3d.decoding import decode_meshes
from methods.mar3d.mar import build_mar
from methods.mar3d.pyramid_vae import build_vae
from methods.mar3d.sampling import sample
from methods.training.flops import counted
from methods.training.weights import lowered

SUMMARY = "MAR sampling: at most 64 steps (one a token), each of 100 diffusion steps, guidance on, one image"
TOLERANCE = 1e-4
VARIANTS = {
    "all four": Plain(),
    "head computed for all tokens": Plain(conditions=False, two_passes=False, head=False),
    "guidance as two passes": Plain(conditions=False, all_tokens=False, head=False),
    "conditions encoded anew in each step": Plain(two_passes=False, all_tokens=False, head=False),
    "head's condition anew in each diffusion step": Plain(conditions=False, two_passes=False, all_tokens=False),
}
FEW = {"steps": 16, "diffusion_steps": 25}
"""In place of the paper's 64 x 100."""
TRIED = "Each plain line stands for one thing that the loop does not do."
ON_GPU = (
    " The loop makes steps x diffusion steps small calls of the head, so a GPU waits for launches. Graph capture and"
    " compilation were not tried: there was no GPU to try them on."
)


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    params = params_of("mar3d", options)
    size = 32 if options.quick else 64
    rows, notes = [], []
    for name in ("lr", "hr"):
        model = build(params, name, size, options.device)
        settings = settings_of(params, name, options)
        precision = params["sampling"]["precision"]
        inputs = inputs_of(model, size, options.device)
        error = agreement(model, inputs, {**settings, "temperature": 1.0})
        model = lowered(model, precision)  # as generation holds it
        calls = {"ours": sampler(model, inputs, settings, None, options, precision)}
        calls |= {k: sampler(model, inputs, settings, v, options, precision) for k, v in VARIANTS.items()}
        taken = interleaved(calls, rounds=5, seconds=1 if options.quick else 45, wait=wait_of(options.device))
        flops, rate = counted(calls["ours"])[1], matmul_rate(precision, options.device, quick=options.quick)
        steps = min(settings["steps"], model.tokens)
        what = f"MAR-{name.upper()}, {model.tokens} tokens, {steps} x {settings['diffusion_steps']} steps"
        for variant in VARIANTS:
            gain = ratios(taken[variant], taken["ours"])
            targets = ()
            if variant == "all four":
                targets = (Target("ratio", 3.0 if options.device == "cuda" else 1.5, gain.median),)
            rows.append(
                Row(
                    what,
                    "s",
                    spread(taken["ours"]),
                    f"plain: {variant}",
                    spread(taken[variant]),
                    ratio=gain,
                    equality=Equality("samples, float32, same noise: largest difference", error[variant], TOLERANCE),
                    targets=targets,
                    limit=_rate(flops, taken["ours"], rate) if variant == "all four" else "",
                    tried=TRIED + ON_GPU * (options.device == "cuda") if variant == "all four" else "",
                )
            )
        if name == "lr":
            rows.append(lth14_mar.sampling_row(model, params, settings, calls["ours"], options))
    rows.append(whole_mesh(params, size, options))
    notes.append("Every plain line is the same model at the same steps and precision; `all four` is their sum.")
    notes.append("LTH14/mar takes square numbers of tokens only, so nothing of it stands beside MAR-HR everywhere.")
    notes.append("Samples are compared after 8 steps of 10 diffusion steps, relative to their largest magnitude.")
    return Outcome("mar_sampling", tuple(rows), growth(options), tuple(notes))


def whole_mesh(params: Mapping[str, Any], size: int, options: Options) -> Row:
    """One image to one mesh in few steps: LR tokens, HR tokens, decoding, marching cubes."""
    few = {"steps": 2, "diffusion_steps": 4} if options.quick else FEW
    precision, picture = params["sampling"]["precision"], images(1, size, options.device)
    low, high = (lowered(build(params, name, size, options.device), precision) for name in ("lr", "hr"))
    vae = randomised(lambda: build_vae(params["vae"], params["latent"]), "vae", device=options.device).eval()
    settings = {name: {**settings_of(params, name, options), **few} for name in ("lr", "hr")}

    def call() -> None:
        rngs = [numpy_rng("benchmarks", "mesh")]
        with cast(options, precision):
            latents = sample(low, picture, None, rngs=rngs, params=settings["lr"])
            latents = sample(high, picture, latents, rngs=rngs, params=settings["hr"])
        decode_meshes(vae, latents, params["extraction"], precision)

    taken = interleaved({"mesh": call}, rounds=5, seconds=60, wait=wait_of(options.device))["mesh"]
    there = options.device == "cuda" and options.scale == "paper"
    cells = params["extraction"]["cells"]
    return Row(
        f"one image to one mesh: LR and HR tokens at {few['steps']} x {few['diffusion_steps']} steps, {cells + 1}^3",
        "s",
        spread(taken),
        limit="a field of random weights, whose surface is larger than an object's",
        targets=(Target("seconds", 1.0, spread(taken).median, "at most", "s"),) if there else (),
        tried="What fewer steps cost in quality: reports/recorded/*/schedules.md.",
    )


def _rate(flops: int, seconds: Sequence[float], rate: float) -> str:
    share = flops / spread(seconds).median / rate
    return f"{flops / 1e9:.1f} GFLOP at {share:.0%} of the measured matrix rate, {rate / 1e9:.0f} GFLOP/s"


def build(params: Mapping[str, Any], name: str, size: int, device: str):
    """A MAR with random weights, ready to sample."""
    return randomised(lambda: build_mar(params, name, size), "mar", name, device=device).eval().requires_grad_(False)


def settings_of(params: Mapping[str, Any], name: str, options: Options) -> dict[str, Any]:
    """The settings that are compared: 64 steps, or as many as tokens, of 100 diffusion steps, guidance 3."""
    steps = {"steps": 2, "diffusion_steps": 4} if options.quick else {"steps": 64, "diffusion_steps": 100}
    return {**params["sampling"][name], **steps, "guidance": 3.0, "sampler": "ddpm"}


def inputs_of(model: Any, size: int, device: str) -> tuple[Tensor, Tensor | None]:
    """One image, and LR tokens where the model takes them."""
    low = torch.randn(1, model.low_tokens, model.channels, generator=torch.Generator().manual_seed(2))
    return images(1, size, device), low.to(device) if model.low_tokens else None


def sampler(
    model: Any, inputs: tuple[Tensor, Tensor | None], settings: Mapping[str, Any], plain: Plain | None,
    options: Options, precision: str,
) -> Callable[[], Tensor]:  # fmt: skip
    """A call that samples once, ours (plain is None) or plainly, from the same random stream each time."""

    def call() -> Tensor:
        rngs = [numpy_rng("benchmarks", "sampling")]
        with cast(options, precision):
            if plain is None:
                return sample(model, *inputs, rngs=rngs, params=settings)
            return plain_sampling.sample(model, *inputs, rngs=rngs, params=settings, plain=plain)

    return call


def agreement(model: Any, inputs: tuple[Tensor, Tensor | None], settings: Mapping[str, Any]) -> dict[str, float]:
    """Largest difference in float32 between our samples and each variant's, relative to their largest magnitude."""
    few = {**settings, "steps": min(8, settings["steps"]), "diffusion_steps": min(10, settings["diffusion_steps"])}
    ours = sample(model, *inputs, rngs=[numpy_rng("agreement")], params=few)
    errors = {}
    for name, plain in VARIANTS.items():
        other = plain_sampling.sample(model, *inputs, rngs=[numpy_rng("agreement")], params=few, plain=plain)
        errors[name] = float((ours - other).abs().max() / ours.abs().max().clamp(min=1.0))
    return errors


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds against tokens, at 4 steps of 10 diffusion steps; the theory is the growth of the counted FLOPs."""
    params = params_of("mar3d", options)
    sizes = (4, 8, 16, 24, 32) if options.quick else (64, 128, 256, 512, 1024)
    settings = {**settings_of(params, "lr", options), "steps": 4, "diffusion_steps": 5 if options.quick else 10}
    calls, flops = {}, []
    for tokens in sizes:
        of_size = {**params, "latent": {**params["latent"], "tokens": {**params["latent"]["tokens"], "lr": tokens}}}
        model = build(of_size, "lr", 32, options.device)
        calls[tokens] = sampler(model, inputs_of(model, 32, options.device), settings, None, options, "fp32")
        flops.append(counted(calls[tokens])[1])
    taken = interleaved(calls, rounds=3 if options.quick else 5, seconds=30, wait=wait_of(options.device))
    costs = tuple(spread(taken[tokens]) for tokens in sizes)
    theory, why = slope(sizes, flops)[0], "growth of the counted FLOPs (attention is quadratic)"
    return (Curve("sampling", "tokens", "s", sizes, costs, theory, why),)
