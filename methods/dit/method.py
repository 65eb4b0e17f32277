"""DiT on MAR-3D's latents: the stages `dit_lr`, `dit_hr`, `dit_hr_direct`, `flow`, and generation with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.files import write_json
from methods.contract import PreparedData, Sizes, Step
from methods.dit import foresee
from methods.dit.dit import TIMES, DiT, build_dit
from methods.dit.objectives import diffusion_loss, velocity_loss
from methods.dit.sampling import sample
from methods.layers.clip_dinov2 import check_identity, frozen_identity
from methods.layers.diffusion import Diffusion
from methods.mar3d.decoding import LatentGenerator
from methods.mar3d.examples import Batch, Examples
from methods.mar3d.sampling import noised
from methods.training import processes
from methods.training.draws import Share
from methods.training.loop import device_of, seeded, train
from methods.training.phases import stretched
from methods.training.weights import frozen, load_weights, save_weights, warm_start

MAR = {"dit_lr": "mar_lr", "dit_hr": "mar_hr", "dit_hr_direct": "mar_hr_direct", "flow": "mar_lr"}
"""The stage of MAR-3D that each stage mirrors: its data, batch and steps are the same."""


class LatentDiT:
    """The method of `config.yaml` at one variant and scale."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Train one of the stages; see `methods.contract.Method.fit`."""
        params, device = self.params, device_of()
        training = training_of(params, stage)
        examples = Examples(
            data,
            upstream["vae"],
            "hr" if stage.startswith("dit_hr") else "lr",
            training=training,
            rotated_share=params["mar"]["rotated_share"],
            augmentation=params[MAR[stage]].get("augmentation"),
            device=device,
            hardware=params["hardware"],
        )
        model = seeded(lambda: build_dit(params, stage, examples.image_size), "dit", stage, seed).to(device)
        if "dit_lr" in upstream:  # mar_hr.warm_start
            warm_start(model, upstream["dit_lr"], also={"embed_low": "embed_latent", "position_low": "position"})
        drawn = examples.condition_on(model.image_encoder)
        behind = frozen_identity(model.image_encoder, out / "resume")
        diffusion = Diffusion(TIMES, device=device, prediction=model.prediction)
        drop = params["mar"]["condition_drop"]

        def loss(batch: Batch, generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
            draws = {"drop": drop, "generator": generator, "share": share}
            if stage == "flow":
                return velocity_loss(model, batch, shift=params["flow"]["shift"], **draws)
            return diffusion_loss(model, batch, diffusion=diffusion, **draws)

        train(
            model,
            examples.draw,
            loss,
            name=stage,
            stream=MAR[stage],  # the same objects, views and latents in the same order
            seed=seed,
            out=out,
            optimiser=params["optimiser"],
            training=training,
            hardware=params["hardware"],
            edges=DiT.EDGES,
            drawing_flops=examples.drawing_flops(),
        )
        if not processes.first():
            return
        used = {section: params[section] for section in ("dit", "mar", "latent", "image_encoder")}
        header = {"params": used, "stage": stage, "image_size": examples.image_size}
        save_weights(out, model.state_dict(), header | behind)
        write_json(out / "measured.json", {"dtype": training["precision"]} | behind | drawn)

    def load(self, stages: Mapping[str, Path], device: str) -> DiTGenerator:
        """The generator of the stages there are."""
        return DiTGenerator(self.params, stages, device_of(device))

    def step_of(self, stage: str, sizes: Sizes, *, upstream: Mapping[str, Any], batch: int | None, device: str) -> Step:
        """See `methods.contract.Method`."""
        training, augmentation = training_of(self.params, stage), self.params[MAR[stage]].get("augmentation")
        params = {**self.params, **upstream["vae"]}
        return foresee.dit_step(params, stage, training, augmentation, sizes, batch=batch, device=device)

    def object_flops(self, stages: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
        """See `methods.contract.Method`."""
        return foresee.object_flops({**self.params, **stages["vae"]}, stages, sizes)


def training_of(params: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """MAR's training of the same design, with `steps_of_mar` times its steps and `lr_of_mar` times its rate."""
    training, own = params[MAR[stage]]["training"], params[stage]
    steps = max(1, round(training["steps"] * own["steps_of_mar"]))
    phases = stretched(training["phases"], steps) if training["phases"] else None
    return {**training, "steps": steps, "phases": phases, "lr": training["lr"] * own["lr_of_mar"]}


def load_dit(stage: Path, device: torch.device) -> DiT:
    """A fitted DiT."""
    header, tensors = load_weights(stage, device)
    model = frozen(build_dit(header["params"], header["stage"], header["image_size"]), tensors, device)
    check_identity(model.image_encoder, header.get("image_encoder"), stage)
    return model


class DiTGenerator(LatentGenerator):
    """Image to latents, in one stage (`dit_lr`, `dit_hr_direct`, `flow`) or two (`dit_lr`, then `dit_hr`)."""

    def __init__(self, params: Mapping[str, Any], stages: Mapping[str, Path], device: torch.device) -> None:
        super().__init__(params, stages["vae"], device)
        self.models = {name: self.held(load_dit(stages[name], device)) for name in MAR if name in stages}

    def latents(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> tuple[str, Tensor]:
        """See `LatentGenerator.latents`."""
        sampling, models = self.params["sampling"], self.models
        for name, bank in (("flow", "lr"), ("dit_hr_direct", "hr")):
            if name in models:
                return bank, sample(models[name], images, None, rngs=rngs, params=sampling[name])
        latents = sample(models["dit_lr"], images, None, rngs=rngs, params=sampling["dit_lr"])
        if "dit_hr" not in models:
            return "lr", latents
        low = noised(latents, sampling["dit_hr"]["augmentation"], rngs)
        return "hr", sample(models["dit_hr"], images, low, rngs=rngs, params=sampling["dit_hr"])
