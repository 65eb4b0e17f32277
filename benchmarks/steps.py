"""One training step of each stage on made-up data of the scale's sizes, and whatever makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.networks import images, params_of, randomised, sizes_of
from benchmarks.options import Options
from benchmarks.plain.training import all_tokens_loss
from methods.dit.dit import TIMES, build_dit
from methods.dit.objectives import diffusion_loss
from methods.layers.diffusion import Diffusion
from methods.layers.image_encoder import made_up_networks
from methods.mar3d.examples import Batch
from methods.mar3d.mar import build_mar
from methods.mar3d.pyramid_vae import build_vae

Loss = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Step:
    """A stage's step. loss: ours. plain_loss: with all tokens in the head, where the stage has one."""

    name: str
    module: nn.Module
    batch: int
    precision: str
    loss: Loss
    plain_loss: Loss | None
    edges: tuple[str, ...]
    optimiser: Mapping[str, Any]


def vae_step(options: Options, batch: int | None = None, points: int | None = None) -> Step:
    """The VAE on its HR bank, with the scale's surface points or so many."""
    params = params_of("mar3d", options)
    vae, latent, training = params["vae"], params["latent"], params["vae"]["training"]
    batch = batch or training["batch"]
    model = randomised(lambda: build_vae(vae, latent), "vae", device=options.device).train()
    generator, points = torch.Generator().manual_seed(5), points or sizes_of(options).points
    queries = training["volume"] + training["near"]
    cloud, normals, where = (
        (torch.rand(batch, n, 3, generator=generator) * 2 - 1).to(options.device) for n in (points, points, queries)
    )
    labels = (where.norm(dim=-1) < 0.8).float()

    def loss(generator: torch.Generator) -> Tensor:
        shape = (batch, latent["tokens"]["hr"], latent["channels"])
        noise = torch.randn(shape, generator=generator).to(options.device)
        return model.loss(cloud, normals, where, labels, bank="hr", kl_weight=vae["kl_weight"], noise=noise)[0]

    return Step("VAE", model, batch, training["precision"], loss, None, model.EDGES, params["optimiser"])


def lr_step(options: Options, batch: int | None = None, tokens: int | None = None) -> Step:
    """MAR-LR, with the scale's tokens or so many."""
    return _mar_step("lr", options, batch, tokens)


def hr_step(options: Options, batch: int | None = None) -> Step:
    """MAR-HR."""
    return _mar_step("hr", options, batch, None)


def _mar_step(name: str, options: Options, batch: int | None, tokens: int | None) -> Step:
    params = with_tokens(params_of("mar3d", options), name, tokens)
    mar, training = params["mar"], params[f"mar_{name}"]["training"]
    batch = batch or training["batch"]
    data = _batch(params, name, batch, options)
    size = data.images.shape[1]
    model = randomised(lambda: build_mar(params, name, size), "mar", name, device=options.device).train()
    made_up_networks(model.image_encoder, torch.device(options.device))
    diffusion = Diffusion(model.noise_steps, device=options.device, prediction=model.prediction)
    settings = {
        "diffusion": diffusion,
        "drop": mar["condition_drop"],
        "mask": mar["mask"],
        "repeats": mar["diffusion_repeats"],
    }
    return Step(
        f"MAR-{name.upper()}",
        model,
        batch,
        training["precision"],
        lambda generator: model.loss(*data, generator=generator, **settings)[0],
        lambda generator: all_tokens_loss(model, *data, generator=generator, **settings),
        model.EDGES,
        params["optimiser"],
    )


def dit_step(options: Options, batch: int | None = None, tokens: int | None = None) -> Step:
    """DiT-LR, with the scale's tokens or so many."""
    params = with_tokens(params_of("dit", options), "lr", tokens)
    training = params["mar_lr"]["training"]
    batch = batch or training["batch"]
    data = _batch(params, "lr", batch, options)
    size = data.images.shape[1]
    model = randomised(lambda: build_dit(params, "dit_lr", size), "dit", device=options.device).train()
    made_up_networks(model.image_encoder, torch.device(options.device))
    diffusion = Diffusion(TIMES, device=options.device, prediction=model.prediction)

    def loss(generator: torch.Generator) -> Tensor:
        drop = params["mar"]["condition_drop"]
        return diffusion_loss(model, data, diffusion=diffusion, drop=drop, generator=generator)[0]

    return Step("DiT-LR", model, batch, training["precision"], loss, None, model.EDGES, params["optimiser"])


def with_tokens(params: Mapping[str, Any], bank: str, tokens: int | None) -> Mapping[str, Any]:
    """Params with another number of tokens of a bank, if one is given."""
    if tokens is None:
        return params
    return {**params, "latent": {**params["latent"], "tokens": {**params["latent"]["tokens"], bank: tokens}}}


def _batch(params: Mapping[str, Any], name: str, batch: int, options: Options) -> Batch:
    latent, generator = params["latent"], torch.Generator().manual_seed(6)
    size = sizes_of(options).image_size
    target, low = (
        torch.randn(batch, latent["tokens"][bank], latent["channels"], generator=generator).to(options.device)
        for bank in (name, "lr")
    )
    return Batch(images(batch, size, options.device), target, low if name == "hr" else None)
