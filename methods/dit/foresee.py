"""Steps and FLOPs of the DiT on made-up inputs of the true sizes, for `methods.foresee`: `methods.contract.Step`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.contract import Sizes, Step
from methods.dit.dit import TIMES, DiT, build_dit
from methods.dit.objectives import diffusion_loss, velocity_loss
from methods.dit.sampling import sample
from methods.layers.diffusion import Diffusion
from methods.layers.image_encoder import made_up_networks
from methods.mar3d.foresee import META, decoding_flops, made_up
from methods.training.flops import counted

Params = Mapping[str, Any]


def dit_step(
    params: Params,
    stage: str,
    training: Params,
    augmentation: Mapping[str, float] | None,
    sizes: Sizes,
    *,
    batch: int | None,
    device: torch.device | str,
) -> Step:
    """A step of a stage; all steps cost the same. training, augmentation: of the stage, as its fit takes them.

    batch: the configured one if None.
    """
    batch = batch or training["batch"]
    with torch.device(device):
        model = build_dit(params, stage, sizes.image_size)
    generator = torch.Generator().manual_seed(0)
    diffusion = Diffusion(TIMES, device=device, prediction=params["mar"]["prediction"])
    bank, drop = "hr" if stage.startswith("dit_hr") else "lr", params["mar"]["condition_drop"]
    drawn = {"batch": batch, "device": device, "precision": training["precision"]}
    examples, frozen = made_up(params, bank, augmentation, sizes, **drawn)

    def loss() -> Tensor:
        if stage == "flow":
            shift = params["flow"]["shift"]
            return velocity_loss(model, examples(), shift=shift, drop=drop, generator=generator)[0]
        return diffusion_loss(model, examples(), diffusion=diffusion, drop=drop, generator=generator)[0]

    frozen += made_up_networks(model.image_encoder, torch.device(device))
    return Step(model, {"step": (1.0, loss)}, {**training, "batch": batch}, params["optimiser"], DiT.EDGES, frozen)


def object_flops(params: Params, stages: Iterable[str], sizes: Sizes) -> dict[str, float]:
    """FLOPs of one object, of sampling and of decoding, as `method.DiTGenerator` does it with these stages."""
    used = [name for name in stages if name in params["sampling"]]
    bank = "hr" if any(name.startswith("dit_hr") for name in used) else "lr"
    sampled = sum(flops_of_steps(params, name, sizes)(params["sampling"][name]["steps"]) for name in used)
    return {"sample": sampled, "decode": decoding_flops(params, bank)}


def flops_of_steps(params: Params, stage: str, sizes: Sizes) -> Callable[[int], float]:
    """FLOPs of drawing one object's tokens, by the number of steps: linear, so that two counts give them all."""
    with META:
        model = build_dit(params, stage, sizes.image_size).eval().requires_grad_(False)
    settings = params["sampling"][stage]
    images = torch.zeros((1, sizes.image_size, sizes.image_size, 4), dtype=torch.uint8, device=META)
    low = torch.zeros((1, model.low_tokens, model.channels), device=META) if model.low_tokens else None

    def count(steps: int) -> int:
        chosen = {**settings, "steps": steps}
        return counted(lambda: sample(model, images, low, rngs=[np.random.default_rng(0)], params=chosen))[1]

    one, two = count(1), count(2)
    return lambda steps: float(one + (steps - 1) * (two - one))
