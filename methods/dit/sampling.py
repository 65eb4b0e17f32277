"""Sampling a DiT with classifier-free guidance: ancestral DDPM or DDIM for noise, Euler for a velocity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.dit.dit import TIMES, DiT
from methods.dit.flow import euler
from methods.layers.diffusion import Diffusion


def guidance(schedule: str, scale: float, t: Tensor) -> Tensor:
    """The weight w of u + w (c - u) at times t (b,) in [0, TIMES].

    constant: scale. linear: from 1 at the noise to scale at the data, as MAR's grows with the tokens that it knows.
    """
    match schedule:
        case "constant":
            return torch.full_like(t, scale, dtype=torch.float32)
        case "linear":
            return 1 + (scale - 1) * (1 - t.float() / TIMES)
    raise ValueError(f"guidance schedule must be linear or constant, got {schedule!r}")


def guided(
    model: DiT, images: Tensor, low: Tensor | None, *, schedule: str, scale: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """The model as (x (b, n, c), t (b,)) -> guided output (b, n, outputs * c); at scale 1 the conditional branch alone.

    Guidance drops the image tokens only; LR tokens stay. A variance is the conditional one, unguided. The condition is
    encoded once, here.
    """
    b = len(images)
    tokens = model.condition(images, torch.ones(b, dtype=torch.bool, device=images.device))
    if scale == 1.0:
        keys = model.keys(tokens, low)
        return lambda x, t: model(x, t, keys).float()
    both = torch.cat([tokens, model.null_condition(b).to(tokens.dtype)])
    keys = model.keys(both, None if low is None else low.repeat(2, 1, 1))

    def output(x: Tensor, t: Tensor) -> Tensor:
        conditional, unconditional = model(x.repeat(2, 1, 1), t.repeat(2), keys).float().chunk(2)
        c, u = conditional[..., : model.channels], unconditional[..., : model.channels]
        weight = guidance(schedule, scale, t)[:, None, None]
        return torch.cat([u + weight * (c - u), conditional[..., model.channels :]], -1)

    return output


@torch.no_grad()
def sample(
    model: DiT,
    images: Tensor,
    low: Tensor | None,
    *,
    rngs: Sequence[np.random.Generator],
    params: Mapping[str, Any],
) -> Tensor:
    """Standardised latents (b, tokens, channels) for images (b, h, w, 4) uint8.

    low: noised LR tokens (b, low_tokens, channels) for DiT-HR. rngs: one a row, the only randomness. params: sampler
    (ddpm, ddim or euler), steps, guidance, guidance_schedule; of DDPM temperature, of Euler shift.
    """
    shape, device = (model.tokens, model.channels), images.device
    output = guided(model, images, low, schedule=params["guidance_schedule"], scale=params["guidance"])

    def draws(count: int) -> Tensor:
        noise = np.stack([rng.standard_normal((count, *shape), dtype=np.float32) for rng in rngs], 1)
        return torch.from_numpy(noise).to(device)

    if params["sampler"] == "euler":
        return euler(lambda x, t: output(x, TIMES * t), draws(1)[0], steps=params["steps"], shift=params["shift"])
    diffusion = Diffusion(TIMES, params["steps"], device, model.prediction)

    def denoiser(x: Tensor, step: int) -> Tensor:
        t = diffusion.timesteps[step].expand(len(x))
        prediction, variance = output(x.unflatten(1, shape), t).chunk(2, -1)
        return torch.cat([prediction.flatten(1), variance.flatten(1)], -1)

    noise = draws(diffusion.steps + 1).flatten(2)
    drawn = diffusion.sample(denoiser, noise, sampler=params["sampler"], temperature=params["temperature"])
    return drawn.unflatten(1, shape)
