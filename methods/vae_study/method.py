"""Study: MAR-3D's VAE at several token counts and kinds of levels, rebuilding the true surface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.files import write_json
from data.store import Sample, Split
from methods.contract import Failure, Mesh, PreparedData, Sizes, Step
from methods.mar3d import foresee
from methods.mar3d.decoding import reconstruct
from methods.mar3d.latents import load_vae, save_vae
from methods.mar3d.vae_training import reconstruction_viou, train_vae
from methods.training import processes
from methods.training.devices import device_of
from methods.training.streaming import surfaces_of
from methods.vae_study.tokens import token_counts


class VaeStudy:
    """One VAE with a bank of queries for each token count; `reconstruction.bank` is the one that is decoded."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Train the stage `vae`: all banks of `study.trained` at once, each drawn equally often."""
        params, shares = self._banks()
        vae, latent, device = params["vae"], params["latent"], device_of()
        split, hardware = Split(data.folder, "train"), params["hardware"]
        pool = surfaces_of(split, device, memory_gb=hardware["memory_gb"], readers=hardware["workers"])
        model = train_vae(params, split, pool, shares, out=out, seed=seed, device=device)
        if not processes.first():
            return
        save_vae(out, model, {}, {"vae": vae, "latent": latent})
        precision, val = vae["training"]["precision"], Split(data.folder, "val")
        viou = {bank: reconstruction_viou(model, val, bank, device, precision) for bank in shares}
        write_json(out / "measured.json", {"dtype": precision, "val_viou": viou})

    def _banks(self) -> tuple[dict[str, Any], dict[str, float]]:
        """The params with the tokens of each bank that is trained, and how often a step trains each."""
        banks, counts = self.params["study"]["trained"], token_counts(self.params)
        latent = {**self.params["latent"], "tokens": {bank: counts[bank] for bank in banks}}
        return {**self.params, "latent": latent}, dict.fromkeys(banks, 1 / len(banks))

    def step_of(self, stage: str, sizes: Sizes, *, upstream: Mapping[str, Any], batch: int | None, device: str) -> Step:
        """See `methods.contract.Method`."""
        return foresee.vae_step(*self._banks(), sizes, batch=batch, device=device)

    def object_flops(self, stages: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
        """See `methods.contract.Method`."""
        params, bank = self._banks()[0], self.params["reconstruction"]["bank"]
        encoded, decoded = foresee.encoding_flops(params, bank, sizes), foresee.decoding_flops(params, bank)
        return {"sample": encoded, "decode": decoded}

    def load(self, stages: Mapping[str, Path], device: str) -> VaeStudy:
        """Load the VAE. Raises ValueError if the bank to decode is not one that was trained."""
        self.bank = self.params["reconstruction"]["bank"]
        if self.bank not in self.params["study"]["trained"]:
            raise ValueError(f"reconstruction.bank is {self.bank!r}, which study.trained does not list; add it there")
        self.vae, _ = load_vae(stages["vae"], device_of(device))
        self.precision: str = self.params["vae"]["training"]["precision"]
        return self

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Sample],
    ) -> list[Mesh | Failure]:
        """Reconstructions of the prepared surface points, in the view frame."""
        wanted = {"bank": self.bank, "precision": self.precision, "extraction": self.params["extraction"]}
        return reconstruct(self.vae, ground_truth, **wanted)
