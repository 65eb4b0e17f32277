"""MAR's sampling loop written plainly: one algorithm, four ways of doing more work than needed, each with a switch.

The random numbers are drawn in the order of `methods.mar3d.sampling.sample`, so that the samples are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.layers.diffusion import Diffusion, StepDenoiser
from methods.mar3d.mar import MaskedAutoregressive
from methods.mar3d.sampling import guidance, is_guided, masked_after


@dataclass(frozen=True)
class Plain:
    """What is done plainly.

    conditions: the image encoder and the buffer run anew in each step, not once. two_passes: the unconditional branch
    runs by itself, in the transformer and in the head, not in one batch with the conditional one. all_tokens: every
    latent place enters the diffusion head in each step and what is not new is thrown away. head: in each diffusion step
    the head embeds time and z and modulates anew, not ahead for many steps at once.
    """

    conditions: bool = True
    two_passes: bool = True
    all_tokens: bool = True
    head: bool = True


@torch.no_grad()
def sample(
    model: MaskedAutoregressive,
    images: Tensor,
    low: Tensor | None,
    *,
    rngs: Sequence[np.random.Generator],
    params: Mapping[str, Any],
    plain: Plain,
) -> Tensor:
    """As `methods.mar3d.sampling.sample`, argument for argument, done as `plain` says."""
    b, tokens, device = len(images), model.tokens, images.device
    rows = torch.arange(b, device=device)[:, None]
    diffusion = Diffusion(model.noise_steps, params["diffusion_steps"], device, model.prediction)
    order = torch.from_numpy(np.stack([rng.permutation(tokens) for rng in rngs])).to(device)
    guided = is_guided(params)

    def buffers() -> list[Tensor]:
        keep = torch.ones(b, dtype=torch.bool, device=device)
        conditional = model.buffer(model.condition(images, keep), low)
        if not guided:
            return [conditional]
        return [conditional, model.buffer(model.null_condition(b).to(conditional.dtype), low)]

    once = None if plain.conditions else buffers()
    latents, current = torch.zeros(b, tokens, model.channels, device=device), tokens
    schedule = masked_after(tokens, params["steps"], params["schedule"])
    for step, left in enumerate(schedule, 1):
        new, known = order[:, left:current], order[:, current:]
        branches = buffers() if once is None else once
        if plain.two_passes:
            z = [model.predict(branch, latents, known) for branch in branches]
        else:
            copies = len(branches)
            z = list(
                model.predict(torch.cat(branches), latents.repeat(copies, 1, 1), known.repeat(copies, 1)).chunk(copies)
            )
        shape = (diffusion.steps + 1, new.shape[1], model.channels)
        noise = torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in rngs], 1)).to(device)
        if plain.all_tokens:
            # Known places get no noise of their own: what the head makes of them is thrown away.
            full = torch.zeros(diffusion.steps + 1, b, tokens, model.channels, device=device)
            full[:, rows, new] = noise
            noise = full
        else:
            z = [branch[rows, new] for branch in z]
        weight = guidance(
            params["guidance_schedule"], params["guidance"], masked=left, tokens=tokens, step=step, steps=len(schedule)
        )
        drawn = diffusion.sample(
            _denoiser(model, diffusion.timesteps, [branch.flatten(0, 1) for branch in z], weight, plain),
            noise.flatten(1, 2),
            sampler=params["sampler"],
            temperature=params["temperature"],
        ).view(b, -1, model.channels)
        latents[rows, new] = drawn[rows, new] if plain.all_tokens else drawn
        current = left
    return latents


def _denoiser(model: MaskedAutoregressive, times: Tensor, z: list[Tensor], weight: float, plain: Plain) -> StepDenoiser:
    """The head under guidance for z: [conditional] or [conditional, unconditional], each (n, width)."""

    def head(z: Tensor) -> StepDenoiser:
        if plain.head:
            return lambda x, step: model.head(x, times[step].expand(len(x)), z)
        return model.head.at(times, z)

    if len(z) == 1:
        return head(z[0])
    heads = [head(branch) for branch in z] if plain.two_passes else [head(torch.cat(z))]

    def denoiser(x: Tensor, step: int) -> Tensor:
        if plain.two_passes:
            conditional, unconditional = (branch(x, step).float() for branch in heads)
        else:
            conditional, unconditional = heads[0](x.repeat(2, 1), step).float().chunk(2)
        prediction_c, variance = conditional.chunk(2, -1)
        prediction_u = unconditional.chunk(2, -1)[0]
        return torch.cat([prediction_u + weight * (prediction_c - prediction_u), variance], -1)

    return denoiser
