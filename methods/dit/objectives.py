"""What a DiT is trained for: a step of diffusion (with its variance), or the velocity of a rectified flow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from methods.dit.dit import TIMES, DiT, Keys
from methods.dit.flow import flow_loss, shifted
from methods.layers.diffusion import Diffusion
from methods.mar3d.examples import Batch
from methods.training.draws import WHOLE, Share


def flat_denoiser(model: DiT, keys: Keys) -> Callable[[Tensor, Tensor], Tensor]:
    """The model as a denoiser of whole sets, for `Diffusion`: (x (b, n * c), t (b,)) -> (b, 2 * n * c)."""

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        prediction, variance = model(x.unflatten(1, (model.tokens, model.channels)), t, keys).chunk(2, -1)
        return torch.cat([prediction.flatten(1), variance.flatten(1)], -1)

    return denoiser


def diffusion_loss(
    model: DiT, batch: Batch, *, diffusion: Diffusion, drop: float, generator: torch.Generator, share: Share = WHOLE
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of `Diffusion.loss`, one time and one noise a shape; `drop`: share of the images that are left out."""
    keys, b, device = _keys(model, batch, drop, generator, share), len(batch.latents), batch.latents.device
    t = share.integers(0, diffusion.steps, (b,), generator, device)
    noise = share.normal(batch.latents.shape, generator, device)
    per_shape = diffusion.loss(flat_denoiser(model, keys), batch.latents.flatten(1), t=t, noise=noise.flatten(1))
    return per_shape.mean(), {}


def velocity_loss(
    model: DiT, batch: Batch, *, shift: float, drop: float, generator: torch.Generator, share: Share = WHOLE
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of `flow_loss` at times that are uniform before the shift."""
    keys, b, device = _keys(model, batch, drop, generator, share), len(batch.latents), batch.latents.device
    t = shifted(share.uniform((b,), generator, device), shift)
    noise = share.normal(batch.latents.shape, generator, device)
    return flow_loss(lambda x, t: model(x, TIMES * t, keys), batch.latents, t=t, noise=noise).mean(), {}


def _keys(model: DiT, batch: Batch, drop: float, generator: torch.Generator, share: Share) -> Keys:
    keep = share.uniform((len(batch.images),), generator, batch.images.device) >= drop
    return model.keys(model.condition(batch.images, keep), batch.low)
