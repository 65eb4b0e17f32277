"""MAR-3D: the stages `vae`, `mar_lr`, `mar_hr`, `mar_hr_direct`, and the cascade that generates with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.files import write_json
from methods.contract import PreparedData, Sizes, Step
from methods.layers.clip_dinov2 import check_identity, frozen_identity
from methods.layers.diffusion import Diffusion
from methods.mar3d import foresee
from methods.mar3d.decoding import LatentGenerator
from methods.mar3d.examples import Batch, Examples
from methods.mar3d.latents import cache_bytes, keeps
from methods.mar3d.mar import MaskedAutoregressive, build_mar
from methods.mar3d.sampling import noised, sample
from methods.mar3d.vae_training import bank_shares, fit_vae
from methods.training import processes
from methods.training.draws import Share
from methods.training.loop import device_of, seeded, train
from methods.training.weights import frozen, load_weights, save_weights, warm_start

BANK = {"mar_lr": "lr", "mar_hr": "hr", "mar_hr_direct": "hr"}
"""The bank of the VAE's queries whose tokens each stage generates."""


class Mar3D:
    """The method of `config.yaml` at one variant and scale."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Train one of the stages; see `methods.contract.Method.fit`."""
        device = device_of()
        if stage == "vae":
            fit_vae(self.params, data, out=out, seed=seed, device=device)
        else:
            start = upstream.get("mar_lr")
            fit_mar(self.params, stage, data, vae=upstream["vae"], start=start, out=out, seed=seed, device=device)

    def load(self, stages: Mapping[str, Path], device: str) -> Cascade:
        """The cascade of the stages there are."""
        return Cascade(self.params, stages, device_of(device))

    def step_of(self, stage: str, sizes: Sizes, *, upstream: Mapping[str, Any], batch: int | None, device: str) -> Step:
        """See `methods.contract.Method`."""
        if stage == "vae":
            return foresee.vae_step(self.params, bank_shares(self.params), sizes, batch=batch, device=device)
        return foresee.mar_step(self.params, stage.removeprefix("mar_"), sizes, batch=batch, device=device)

    def object_flops(self, stages: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
        """See `methods.contract.Method`."""
        return foresee.object_flops(self.params, stages, sizes)

    def kept_bytes(self, views: int) -> dict[str, float]:
        """See `methods.contract.Method`."""
        latent = self.params["latent"]
        kept = {"latents": float(cache_bytes(latent, views))} if keeps(latent, views) else {}
        return kept | foresee.kept_features(self.params["image_encoder"], views)


# ---------------------------------------------------------------- training


def fit_mar(
    params: Mapping[str, Any],
    stage: str,
    data: PreparedData,
    *,
    vae: Path,
    start: Path | None = None,
    out: Path,
    seed: int,
    device: torch.device,
) -> None:
    """Train `mar_lr`, `mar_hr` or `mar_hr_direct` on the frozen VAE's latents; start: a stage to begin from."""
    mar, training, bank = params["mar"], params[stage]["training"], BANK[stage]
    examples = Examples(
        data,
        vae,
        bank,
        training=training,
        rotated_share=mar["rotated_share"],
        augmentation=params[stage].get("augmentation"),
        device=device,
        hardware=params["hardware"],
    )
    name = stage.removeprefix("mar_")
    model = seeded(lambda: build_mar(params, name, examples.image_size), "mar", name, seed).to(device)
    if start is not None:
        warm_start(model, start, also={"embed_low": "embed_latent"})
    drawn = examples.condition_on(model.image_encoder)
    behind = frozen_identity(model.image_encoder, out / "resume")
    diffusion = Diffusion(model.noise_steps, device=device, prediction=model.prediction)

    def loss(batch: Batch, generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        return model.loss(
            *batch,
            generator=generator,
            share=share,
            diffusion=diffusion,
            drop=mar["condition_drop"],
            mask=mar["mask"],
            repeats=mar["diffusion_repeats"],
        )

    train(
        model,
        examples.draw,
        loss,
        name=stage,
        seed=seed,
        out=out,
        optimiser=params["optimiser"],
        training=training,
        hardware=params["hardware"],
        edges=MaskedAutoregressive.EDGES,
        drawing_flops=examples.drawing_flops(),
    )
    if not processes.first():
        return
    used = {"mar": mar, "latent": params["latent"], "image_encoder": params["image_encoder"]}
    save_weights(out, model.state_dict(), {"params": used, "image_size": examples.image_size} | behind)
    write_json(out / "measured.json", {"dtype": training["precision"]} | behind | drawn)


# ---------------------------------------------------------------- generation


def load_mar(stage: Path, name: str, device: torch.device) -> MaskedAutoregressive:
    """A fitted MAR by its name for `build_mar`: `lr`, `hr` or `hr_direct`."""
    header, tensors = load_weights(stage, device)
    model = frozen(build_mar(header["params"], name, header["image_size"]), tensors, device)
    check_identity(model.image_encoder, header.get("image_encoder"), stage)
    return model


class Cascade(LatentGenerator):
    """Image to LR tokens to HR tokens to occupancy to mesh.

    Without `mar_hr` among the stages, the LR tokens are decoded; with `mar_hr_direct`, there are none.
    """

    def __init__(self, params: Mapping[str, Any], stages: Mapping[str, Path], device: torch.device) -> None:
        super().__init__(params, stages["vae"], device)
        self.lr, self.hr, self.direct = (
            self.held(load_mar(stages[f"mar_{name}"], name, device)) if f"mar_{name}" in stages else None
            for name in ("lr", "hr", "hr_direct")
        )

    def latents(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> tuple[str, Tensor]:
        """See `LatentGenerator.latents`."""
        sampling = self.params["sampling"]
        if self.direct is not None:
            return "hr", sample(self.direct, images, None, rngs=rngs, params=sampling["hr"])
        latents = sample(self.lr, images, None, rngs=rngs, params=sampling["lr"])
        if self.hr is None:
            return "lr", latents
        low = noised(latents, sampling["hr"]["augmentation"], rngs)
        return "hr", sample(self.hr, images, low, rngs=rngs, params=sampling["hr"])
