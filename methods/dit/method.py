"""DiT on MAR-3D's latents: the stages `dit_lr`, `dit_hr`, `dit_hr_direct`, `flow`, and generation with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from core.files import write_json
from methods.contract import PreparedData
from methods.dit.dit import TIMES, DiT, build_dit
from methods.dit.objectives import diffusion_loss, velocity_loss
from methods.dit.sampling import sample
from methods.layers.clip_dinov2 import check_identity, frozen_identity
from methods.layers.diffusion import Diffusion
from methods.mar3d.examples import Examples
from methods.mar3d.method import LatentGenerator, noised
from methods.training.checkpoint import save_tensors
from methods.training.loop import device_of, seeded, train

MAR = {"dit_lr": "mar_lr", "dit_hr": "mar_hr", "dit_hr_direct": "mar_hr_direct", "flow": "mar_lr"}
"""MAR-3D's stage of the same design, whose data, batch and steps are a stage's own."""


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
            batch=training["batch"],
            rotated_share=params["mar"]["rotated_share"],
            augmentation=params[MAR[stage]].get("augmentation"),
            precision=training["precision"],
            device=device,
        )
        model = seeded(lambda: build_dit(params, stage, examples.image_size), "dit", stage, seed).to(device)
        drawn = examples.condition_on(model.image_encoder)
        frozen = frozen_identity(model.image_encoder, out / "resume")
        diffusion = Diffusion(TIMES, device=device, prediction=model.prediction)
        drop = params["mar"]["condition_drop"]

        def loss(generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
            batch = examples.draw(generator)
            if stage == "flow":
                return velocity_loss(model, batch, shift=params["flow"]["shift"], drop=drop, generator=generator)
            return diffusion_loss(model, batch, diffusion=diffusion, drop=drop, generator=generator)

        train(
            model,
            loss,
            name=stage,
            seed=seed,
            out=out,
            optimiser=params["optimiser"],
            training=training,
            edges=DiT.EDGES,
        )
        used = {section: params[section] for section in ("dit", "mar", "latent", "image_encoder")}
        header = {"params": used, "stage": stage, "image_size": examples.image_size} | frozen
        save_tensors(out / "weights.safetensors", model.state_dict(), {"dit": json.dumps(header)})
        write_json(out / "measured.json", {"dtype": training["precision"]} | frozen | drawn)

    def load(self, stages: Mapping[str, Path], device: str) -> DiTGenerator:
        """The generator of the stages there are."""
        return DiTGenerator(self.params, stages, device_of(device))


def training_of(params: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """MAR's training of the same design, with `steps_of_mar` times its steps and `lr_of_mar` times its rate."""
    training, own = params[MAR[stage]]["training"], params[stage]
    steps = max(1, round(training["steps"] * own["steps_of_mar"]))
    return {**training, "steps": steps, "lr": training["lr"] * own["lr_of_mar"]}


def load_dit(stage: Path, device: torch.device) -> DiT:
    """A fitted DiT."""
    path = stage / "weights.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["dit"])
    model = build_dit(header["params"], header["stage"], header["image_size"]).to(device)
    check_identity(model.image_encoder, header.get("image_encoder"), path)
    model.load_state_dict(load_file(path, device=str(device)))
    return model.eval().requires_grad_(False)


class DiTGenerator(LatentGenerator):
    """Image to latents, in one stage (`dit_lr`, `dit_hr_direct`, `flow`) or two (`dit_lr`, then `dit_hr`)."""

    def __init__(self, params: Mapping[str, Any], stages: Mapping[str, Path], device: torch.device) -> None:
        super().__init__(params, stages["vae"], device)
        self.models = {name: load_dit(stages[name], device) for name in MAR if name in stages}

    def sample(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> tuple[str, Tensor]:
        """See `LatentGenerator.sample`."""
        sampling, models = self.params["sampling"], self.models
        for name, bank in (("flow", "lr"), ("dit_hr_direct", "hr")):
            if name in models:
                return bank, sample(models[name], images, None, rngs=rngs, params=sampling[name])
        latents = sample(models["dit_lr"], images, None, rngs=rngs, params=sampling["dit_lr"])
        if "dit_hr" not in models:
            return "lr", latents
        low = noised(latents, sampling["dit_hr"]["augmentation"], rngs)
        return "hr", sample(models["dit_hr"], images, low, rngs=rngs, params=sampling["dit_hr"])
