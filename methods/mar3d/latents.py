"""Latents of the training views: encoded once by the frozen VAE, standardised, resampled at every draw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.progress import Progress
from methods.mar3d.pyramid_vae import BANKS, Posterior, PyramidVAE, build_vae
from methods.training.draws import WHOLE, Share
from methods.training.loop import autocast
from methods.training.pool import Surfaced
from methods.training.streaming import Rows
from methods.training.weights import frozen, load_weights, save_weights

FILE = "latents.safetensors"


@torch.no_grad()
def encode_views(
    vae: PyramidVAE, pool: Surfaced, views: list[int], precision: str, batch: int = 64, objects: int | None = None
) -> dict[str, Tensor]:
    """Posteriors of the given views by bank: (objects, views, tokens, 2 * channels) float16.

    objects: the first ones, or all. The last axis holds the mean, then the log variance.
    """
    objects = min(len(pool), objects or len(pool))
    total = objects * len(views)
    flat, chosen = torch.arange(total), torch.tensor(views)
    parts: dict[str, list[Tensor]] = {bank: [] for bank in BANKS}
    progress = Progress("encode", total)
    for index in flat.split(batch):
        points, normals = pool.surface(index // len(views), chosen[index % len(views)])
        with autocast(pool.device, precision):
            for bank in BANKS:
                posterior = vae.encode(points, normals, bank)
                parts[bank].append(torch.cat([posterior.mean, posterior.log_variance], -1).half().cpu())
        progress.update(int(index[-1]) + 1)
    return {bank: torch.cat(p).unflatten(0, (objects, len(views))) for bank, p in parts.items()}


def statistics(posteriors: Tensor) -> dict[str, Tensor]:
    """Per-channel mean and standard deviation (channels,) of samples of the posteriors, and the share of noise.

    `noise` is the posterior's standard deviation over the aggregate one: near 1 for a dead channel.
    """
    mean, log_variance = posteriors.float().flatten(0, -2).chunk(2, -1)
    variance = log_variance.exp().mean(0)
    std = (mean.var(0, correction=0) + variance).sqrt()
    return {"mean": mean.mean(0), "std": std, "noise": variance.sqrt() / std}


class LatentPool:
    """Standardised latents of the training views: read from the VAE stage's cache, or encoded as they are drawn."""

    def __init__(
        self, stage: Path, pool: Surfaced | None, device: torch.device, precision: str, memory_gb: float = math.inf
    ) -> None:
        """stage: folder of the fitted VAE. pool: the surfaces, needed only where the stage kept no latents.

        memory_gb: a larger cache stays on disk.
        """
        self.vae, self.scaling = load_vae(stage, device)
        self.pool, self.precision, self.device = pool, precision, device
        cache = stage / FILE
        self.cache = Rows(cache, device, memory_gb=memory_gb) if cache.exists() else None
        if self.cache is None and pool is None:
            raise ValueError(f"{stage} holds no {FILE}, so the surfaces are needed to encode from")

    @torch.no_grad()
    def draw(
        self, bank: str, objects: Tensor, views: Tensor, generator: torch.Generator, share: Share = WHOLE
    ) -> Tensor:
        """A posterior sample for each (object, view): (b, tokens, channels) float32, zero mean, unit variance."""
        if self.cache is not None:
            mean, log_variance = self.cache.rows(bank, objects, views).float().chunk(2, -1)
            posterior = Posterior(mean, log_variance)
        else:
            with autocast(self.device, self.precision):
                posterior = self.vae.encode(*self.pool.surface(objects, views), bank)
        noise = share.normal(posterior.mean.shape, generator, self.device)
        return self.scaling.standardise(bank, posterior.sample(noise))


class Scaling:
    """Per-channel standardisation of each bank's latents, stored with the VAE's weights."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def standardise(self, bank: str, latents: Tensor) -> Tensor:
        """(x - mean) / std."""
        return (latents - self.tensors[f"{bank}.mean"]) / self.tensors[f"{bank}.std"]

    def restore(self, bank: str, latents: Tensor) -> Tensor:
        """x * std + mean."""
        return latents * self.tensors[f"{bank}.std"] + self.tensors[f"{bank}.mean"]


def save_vae(stage: Path, vae: PyramidVAE, scaling: Mapping[str, Tensor], params: Mapping[str, Any]) -> None:
    """Write weights, latent statistics and the parameters to rebuild the module into the stage's folder."""
    tensors = {f"vae.{k}": v for k, v in vae.state_dict().items()} | {f"scaling.{k}": v for k, v in scaling.items()}
    save_weights(stage, tensors, {"params": params})


def load_vae(stage: Path, device: torch.device) -> tuple[PyramidVAE, Scaling]:
    """The frozen VAE of a fitted stage and its latent statistics."""
    header, tensors = load_weights(stage, device)
    parts: dict[str, dict[str, Tensor]] = {"vae": {}, "scaling": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    params = header["params"]
    return frozen(build_vae(params["vae"], params["latent"]), parts["vae"], device), Scaling(parts["scaling"])
