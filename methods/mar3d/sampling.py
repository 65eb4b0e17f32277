"""Sampling a masked autoregressive model: random order, cosine schedule, guidance (MAR-3D section 3.4).

Eq. 8 as printed lacks pi/2 and has the wrong sign, and Eq. 9 starts at zero guidance; the schedules here are
those of the released code (see docs/deviations.md), with the printed ones as named alternatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.layers.diffusion import Diffusion, StepDenoiser
from methods.mar3d.examples import augment
from methods.mar3d.mar import MaskedAutoregressive


def masked_after(tokens: int, steps: int, schedule: str = "cosine") -> list[int]:
    """How many tokens are still masked after each of `steps` steps; the last entry is 0.

    cosine: floor(tokens * cos(pi/2 * s/steps)); uniform: an equal share each step. At least one token is new
    in each step, so at most `tokens` steps are made.
    """
    if schedule not in ("cosine", "uniform"):
        raise ValueError(f"schedule must be cosine or uniform, got {schedule!r}")
    result, current, steps = [], tokens, min(steps, tokens)
    for s in range(1, steps + 1):
        left = math.cos(math.pi / 2 * s / steps) if schedule == "cosine" else 1 - s / steps
        # Tokens left for the later steps: each of them reveals at least one.
        current = 0 if s == steps else max(steps - s, min(current - 1, math.floor(tokens * left + 1e-9)))
        result.append(current)
    return result


def guidance(schedule: str, scale: float, *, masked: int, tokens: int, step: int, steps: int) -> float:
    """The weight w of eps_u + w (eps_c - eps_u) in one step (1 <= step <= steps).

    linear: 1 + (scale - 1) * known fraction after the step (released code). constant: scale. paper: Eq. 9 as
    printed, step * scale / steps.
    """
    match schedule:
        case "linear":
            return 1 + (scale - 1) * (tokens - masked) / tokens
        case "constant":
            return scale
        case "paper":
            return step * scale / steps
    raise ValueError(f"guidance schedule must be linear, constant or paper, got {schedule!r}")


def is_guided(params: Mapping[str, Any]) -> bool:
    """Whether any step weighs the unconditional branch; Eq. 9 as printed does so at scale 1, too."""
    return params["guidance"] != 1.0 or params["guidance_schedule"] == "paper"


def _guided(head: StepDenoiser, weight: float) -> StepDenoiser:
    """A head for n conditional and n unconditional z as a denoiser of x (n, c).

    Both halves start from the same noise; the variance is the conditional one, unguided.
    """

    def denoiser(x: Tensor, step: int) -> Tensor:
        conditional, unconditional = head(x.repeat(2, 1), step).float().chunk(2)
        prediction_c, variance = conditional.chunk(2, -1)
        prediction_u = unconditional.chunk(2, -1)[0]
        return torch.cat([prediction_u + weight * (prediction_c - prediction_u), variance], -1)

    return denoiser


@torch.no_grad()
def sample(
    model: MaskedAutoregressive,
    images: Tensor,
    low: Tensor | None,
    *,
    rngs: Sequence[np.random.Generator],
    params: Mapping[str, Any],
) -> Tensor:
    """Standardised latents (b, tokens, channels) for images (b, h, w, 4) uint8.

    low: noised LR tokens (b, low_tokens, channels) for MAR-HR. rngs: one a row, the only randomness. params:
    steps, schedule, guidance, guidance_schedule, sampler, diffusion_steps, temperature. Where `is_guided` says no,
    the unconditional branch is not run. Guidance drops the image tokens only; LR tokens stay.
    """
    b, tokens, device = len(images), model.tokens, images.device
    rows = torch.arange(b, device=device)[:, None]
    diffusion = Diffusion(model.noise_steps, params["diffusion_steps"], device, model.prediction)
    order = torch.from_numpy(np.stack([rng.permutation(tokens) for rng in rngs])).to(device)
    guided = is_guided(params)
    buffer = model.buffer(model.condition(images, torch.ones(b, dtype=torch.bool, device=device)), low)
    if guided:
        buffer = torch.cat([buffer, model.buffer(model.null_condition(b).to(buffer.dtype), low)])
    latents = torch.zeros(b, tokens, model.channels, device=device)
    current = tokens
    schedule = masked_after(tokens, params["steps"], params["schedule"])
    for step, left in enumerate(schedule, 1):
        new, known = order[:, left:current], order[:, current:]
        copies = 2 if guided else 1
        z = model.predict(buffer, latents.repeat(copies, 1, 1), known.repeat(copies, 1))
        z = z[torch.arange(b * copies, device=device)[:, None], new.repeat(copies, 1)].flatten(0, 1)
        shape = (diffusion.steps + 1, new.shape[1], model.channels)
        draws = np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs], 1)
        noise = torch.from_numpy(draws).to(device).flatten(1, 2)
        weight = guidance(
            params["guidance_schedule"], params["guidance"], masked=left, tokens=tokens, step=step, steps=len(schedule)
        )
        denoiser = model.head.at(diffusion.timesteps, z)
        if guided:
            denoiser = _guided(denoiser, weight)
        drawn = diffusion.sample(denoiser, noise, sampler=params["sampler"], temperature=params["temperature"])
        latents[rows, new] = drawn.view(b, new.shape[1], model.channels)
        current = left
    return latents


def noised(latents: Tensor, t: float, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Condition augmentation of generated LR tokens (b, tokens, channels), each row from its own generator."""
    draws = np.stack([rng.standard_normal(latents.shape[1:], dtype=np.float32) for rng in rngs])
    return augment(latents, t, torch.from_numpy(draws).to(latents.device))
