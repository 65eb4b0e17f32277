"""How many training steps and sampling steps give a DiT the FLOPs of MAR's stage of the same design.

    python -m methods.dit.matching --scale cpu --image-size 64

prints the `steps_of_mar` and the sampling `steps` that `config.yaml` states in its variants `…_equal_flops` and
`…_equal_time`. Networks run on the meta device: shapes and operations, no numbers. A test counts again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from core.errors import run_cli
from methods.dit import sampling as dit_sampling
from methods.dit.dit import TIMES, build_dit
from methods.dit.method import MAR
from methods.dit.objectives import diffusion_loss, velocity_loss
from methods.layers.diffusion import Diffusion
from methods.mar3d import sampling as mar_sampling
from methods.mar3d.examples import Batch
from methods.mar3d.mar import build_mar, mask_ratio
from methods.registry import SCALES, resolve
from methods.training.flops import counted

META = torch.device("meta")
MASKS = 6
"""Mask ratios that stand for MAR's: means of equal parts of its distribution, over which its cost is nearly linear."""

Params = Mapping[str, Any]


def networks(params: Params, stage: str, image_size: int) -> tuple[nn.Module, nn.Module]:
    """MAR's network and the DiT's of a stage of `MAR`, on the meta device."""
    with META:
        return build_mar(params, MAR[stage].removeprefix("mar_"), image_size), build_dit(params, stage, image_size)


def training_flops(params: Params, stage: str, image_size: int) -> tuple[float, float]:
    """FLOPs of one training step a sample, of MAR and of the DiT."""
    mar, dit = networks(params, stage, image_size)
    generator, diffusion = torch.Generator().manual_seed(0), Diffusion(TIMES, device=META, prediction=mar.prediction)

    def mar_step(ratio: float) -> None:
        value, _ = mar.loss(
            *_batch(mar, image_size),
            generator=generator,
            diffusion=diffusion,
            drop=params["mar"]["condition_drop"],
            mask={"low": ratio, "high": ratio},
            repeats=params["mar"]["diffusion_repeats"],
        )
        value.backward()

    def dit_step() -> None:
        batch = _batch(dit, image_size)
        if stage == "flow":
            value, _ = velocity_loss(dit, batch, shift=1.0, drop=0.0, generator=generator)
        else:
            value, _ = diffusion_loss(dit, batch, diffusion=diffusion, drop=0.0, generator=generator)
        value.backward()

    ratios = sorted(mask_ratio(generator, **params["mar"]["mask"]) for _ in range(1000))
    means = [float(part.mean()) for part in np.array_split(ratios, MASKS)]
    mar_flops = [counted(lambda ratio=ratio: mar_step(ratio))[1] for ratio in means]
    return float(np.mean(mar_flops)), float(counted(dit_step)[1])


def sampling_flops(params: Params, theirs: Params, stage: str, image_size: int) -> tuple[float, Callable[[int], float]]:
    """FLOPs of sampling one object: MAR's, and the DiT's as a function of its steps.

    theirs: the params of mar3d. Both are linear in their diffusion steps, so that two counts give them all.
    """
    mar, dit = networks(params, stage, image_size)
    own = params["sampling"][stage]
    settings = theirs["sampling"]["hr" if MAR[stage].startswith("mar_hr") else "lr"]

    def count(module: Any, network: nn.Module, settings: Params) -> int:
        images, _, low = _batch(network, image_size)
        return counted(lambda: module.sample(network, images, low, rngs=[np.random.default_rng(0)], params=settings))[1]

    one, two = (count(mar_sampling, mar, {**settings, "diffusion_steps": n}) for n in (1, 2))
    first, second = (count(dit_sampling, dit, {**own, "steps": n}) for n in (1, 2))
    total = one + (settings["diffusion_steps"] - 1) * (two - one)
    return float(total), lambda steps: float(first + (steps - 1) * (second - first))


def _batch(network: nn.Module, image_size: int) -> Batch:
    def latents(tokens: int) -> torch.Tensor:
        return torch.zeros((1, tokens, network.channels), device=META)

    images = torch.zeros((1, image_size, image_size, 4), dtype=torch.uint8, device=META)
    return Batch(images, latents(network.tokens), latents(network.low_tokens) if network.low_tokens else None)


def main() -> None:
    """Print what `config.yaml` should state at a scale."""
    parser = argparse.ArgumentParser(prog="python -m methods.dit.matching", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, required=True)
    parser.add_argument("--image-size", type=int, required=True, help="pixels; prepare.image_size of the scale")
    args = parser.parse_args()
    params, theirs = (resolve(*name, args.scale).params for name in (("dit", "cascade"), ("mar3d", "full")))
    for stage in MAR:
        mar, dit = training_flops(params, stage, args.image_size)
        wanted, of_steps = sampling_flops(params, theirs, stage, args.image_size)
        steps = round(1 + (wanted - of_steps(1)) / (of_steps(2) - of_steps(1)))
        given = of_steps(params["sampling"][stage]["steps"]) / wanted
        print(f"{stage}: a step {mar:.3g} (MAR), {dit:.3g}; steps_of_mar {mar / dit:.2f}", flush=True)
        print(f"  an object {wanted:.3g} (MAR), {given:.2f} of it at the scale's steps; equal at {steps}", flush=True)


if __name__ == "__main__":
    run_cli(main)
