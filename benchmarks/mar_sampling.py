"""MAR sampling against the plain loop: same noise, same samples, how much faster, and how it grows with tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks import lth14_mar, theory
from benchmarks.growth import Curve
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import (
    cast,
    empty_calls,
    images,
    params_of,
    randomised,
    sizes_of,
    square_product,
    wait_of,
)
from benchmarks.options import Options
from benchmarks.peers import NO_GPU
from benchmarks.plain import sampling as plain_sampling
from benchmarks.plain.sampling import Plain
from benchmarks.result import Equality, Outcome, Row, Target
from core.randomness import numpy_rng
from methods.layers.image_encoder import made_up_networks
from methods.mar3d.decoding import decode_meshes
from methods.mar3d.mar import build_mar
from methods.mar3d.pyramid_vae import build_vae
from methods.mar3d.sampling import sample
from methods.training.flops import counted
from methods.training.weights import lowered

SUMMARY = "MAR sampling: at most 64 steps (one a token), each of 100 diffusion steps, guidance on, one image"
TOLERANCE = 1e-4
WHOLE = "all four"
VARIANTS = {
    WHOLE: Plain(),
    "head computed for all tokens": Plain(conditions=False, two_passes=False, head=False),
    "guidance as two passes": Plain(conditions=False, all_tokens=False, head=False),
    "conditions encoded anew in each step": Plain(two_passes=False, all_tokens=False, head=False),
    "head's condition anew in each diffusion step": Plain(conditions=False, two_passes=False, all_tokens=False),
}
FEW = {"steps": 16, "diffusion_steps": 25}
"""In place of the paper's 64 x 100."""
ON_CPU, ON_GPU = 1.5, 3.0
"""Times as fast as the plain loop."""
TRIED = (
    "The loop makes steps x diffusion steps small calls of the head, whatever the device; what they need not compute is"
    " left out, a line each. Graph capture and compilation, which a GPU would gain by, were not tried: none was there."
)

CURVED = (
    "from 512 to 1024 tokens attention's products grow by a factor of 5 and its softmax, which FLOPs leave out, by 6,"
    " where the square is 4: both branches' scores are then 26 MB in bf16 and 52 MB in the softmax's float32 (7 and 13"
    " before), larger than a cache; the rest doubles (docs/log.md, `where the curve of sampling bends`)"
)
"""Why seconds bend upwards in the last interval of the growth."""


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    params, size = params_of("mar3d", options), sizes_of(options).image_size
    rows: list[Row] = []
    for name in ("lr", "hr"):
        model = build(params, name, size, options.device)
        settings = settings_of(params, name, options)
        precision = params["sampling"]["precision"]
        inputs = inputs_of(model, size, options.device)
        variants = VARIANTS if name == "lr" else {WHOLE: VARIANTS[WHOLE]}  # of HR a round would take half a minute
        error = agreement(model, inputs, settings, variants)
        model = lowered(model, precision)  # as generation holds it
        calls = {"ours": sampler(model, inputs, settings, None, options, precision)}
        calls |= {k: sampler(model, inputs, settings, v, options, precision) for k, v in variants.items()}
        product = square_product(precision, options.device, quick=options.quick)
        timed = {**calls, "product": product.call}
        taken = interleaved(
            timed, rounds=4, seconds=1 if options.quick else 30, wait=wait_of(options.device),
            warm_up=int(options.device == "cuda"),  # on a CPU thousands of small calls warm themselves up
        )  # fmt: skip
        flops = counted(calls["ours"])[1]
        limit = f"{flops / 1e9:.1f} GFLOP, {product.told(flops, taken['ours'], taken['product'])}; " + empty_calls(
            calls["ours"], spread(taken["ours"]).median, options.device
        )
        steps = min(settings["steps"], model.tokens)
        what = f"MAR-{name.upper()}, {model.tokens} tokens, {steps} x {settings['diffusion_steps']} steps"
        for variant in variants:
            gain = ratios(taken[variant], taken["ours"])
            whole = variant == WHOLE
            rows.append(
                Row(
                    what,
                    "s",
                    spread(taken["ours"]),
                    f"plain: {variant}",
                    spread(taken[variant]),
                    ratio=gain,
                    equality=Equality("samples, float32, same noise: largest difference", error[variant], TOLERANCE),
                    targets=(Target("ratio", wanted(options), gain.median),) if whole else (),
                    limit=limit if whole else "",
                    tried=TRIED if whole else "",
                )
            )
        if name == "lr":
            rows.append(lth14_mar.sampling_row(model, params, settings, calls["ours"], wanted(options), options))
    rows.append(whole_mesh(params, size, options))
    rows += [] if options.device == "cuda" else on_gpu()
    return Outcome("mar_sampling", tuple(rows), growth(options), (
        "Every plain line is the same model at the same steps and precision; `all four` is their sum.",
        "LTH14/mar takes square numbers of tokens only; MAR-HR's, where they are not square, have no row of it.",
        "Samples are compared at temperature 1, relative to their largest magnitude: `all four` after the steps that"
        " are timed, single switches after 8 steps of 10 diffusion steps. Single switches are those of MAR-LR.",
        "What few steps cost in quality was measured at scale `cpu` alone, 64 procedural and 100 scanned objects, one"
        " seed: reports/recorded/*/schedules.md. At the paper's size it is not known.",
    ))  # fmt: skip


def wanted(options: Options) -> float:
    """How many times as fast as a peer sampling should be on this device."""
    return ON_GPU if options.device == "cuda" else ON_CPU


def on_gpu() -> list[Row]:
    """The targets that only a GPU can reach or miss, where there is none."""
    ratio, second = Target("ratio", ON_GPU, None), Target("time", 1.0, None, "at most", "s")
    few = f"{FEW['steps']} x {FEW['diffusion_steps']} steps"
    return [
        Row("MAR-LR and MAR-HR on a GPU", "s", None, "plain: all four", peer_status=NO_GPU, targets=(ratio,)),
        Row("MAR-LR on a GPU", "s", None, lth14_mar.PEER, peer_status=NO_GPU, targets=(ratio,)),
        Row(
            f"one image to one mesh at scale paper on an H200, {few}", "s", None, peer_status=NO_GPU, targets=(second,)
        ),
    ]


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

    product = square_product(precision, options.device, quick=options.quick)
    calls = {"mesh": call, "product": product.call}
    taken = interleaved(calls, rounds=5, seconds=30, wait=wait_of(options.device))
    there, mesh = options.device == "cuda" and options.scale == "paper", spread(taken["mesh"])
    flops = counted(call)[1]
    cells = params["extraction"]["cells"]
    return Row(
        f"one image to one mesh: LR and HR tokens at {few['steps']} x {few['diffusion_steps']} steps, {cells + 1}^3",
        "s",
        mesh,
        limit=f"{flops / 1e9:.1f} GFLOP, {product.told(flops, taken['mesh'], taken['product'])};"
        f" {empty_calls(call, mesh.median, options.device)};"
        " a field of random weights has more surface than an object's",
        targets=(Target("time", 1.0, mesh.median, "at most", "s"),) if there else (),
        tried=TRIED,
    )


def build(params: Mapping[str, Any], name: str, size: int, device: str):
    """A MAR with random weights, ready to sample; the networks of an encoder that is never trained are made up too."""
    model = randomised(lambda: build_mar(params, name, size), "mar", name, device=device).eval().requires_grad_(False)
    made_up_networks(model.image_encoder, torch.device(device))
    return model


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


def agreement(
    model: Any, inputs: tuple[Tensor, Tensor | None], settings: Mapping[str, Any],
    variants: Mapping[str, Plain] = VARIANTS,
) -> dict[str, float]:  # fmt: skip
    """Largest difference in float32 between our samples and each variant's, relative to their largest magnitude.

    At temperature 1; all four at once after these settings' steps, one alone after 8 of 10 diffusion steps.
    """
    full = {**settings, "temperature": 1.0}
    few = {**full, "steps": min(8, settings["steps"]), "diffusion_steps": min(10, settings["diffusion_steps"])}
    errors = {}
    for name, plain in variants.items():
        given = {"rngs": [numpy_rng("agreement")], "params": full if name == WHOLE else few}
        ours = sample(model, *inputs, **given)
        given["rngs"] = [numpy_rng("agreement")]
        other = plain_sampling.sample(model, *inputs, **given, plain=plain)
        errors[name] = float((ours - other).abs().max() / ours.abs().max().clamp(min=1.0))
    return errors


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds against tokens, at 4 steps of 10 diffusion steps in the precision of generation.

    The theory is the growth of FLOPs by formula.
    """
    params, size = params_of("mar3d", options), sizes_of(options).image_size
    precision = params["sampling"]["precision"]
    sizes = (4, 8, 16, 24, 32) if options.quick else (64, 128, 256, 512, 1024)
    settings = {**settings_of(params, "lr", options), "steps": 4, "diffusion_steps": 5 if options.quick else 10}
    calls, flops = {}, []
    for tokens in sizes:
        of_size = {**params, "latent": {**params["latent"], "tokens": {**params["latent"]["tokens"], "lr": tokens}}}
        model = lowered(build(of_size, "lr", size, options.device), precision)
        calls[tokens] = sampler(model, inputs_of(model, size, options.device), settings, None, options, precision)
        flops.append(theory.sampling(params, settings, tokens, size))
    taken = interleaved(calls, rounds=3, wait=wait_of(options.device))
    costs = tuple(spread(taken[tokens]) for tokens in sizes)
    why = "FLOPs by formula, benchmarks/theory.py (attention is quadratic)"
    label = f"sampling, {precision}"
    return (Curve(label, "tokens", "s", sizes, costs, None, why, tried=CURVED, expected=tuple(flops)),)
