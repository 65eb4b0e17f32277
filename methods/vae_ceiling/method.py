"""Control: encode and decode the true surface with MAR-3D's VAE; the ceiling of every generator on its latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.store import Sample
from methods.contract import Failure, Mesh, PreparedData, Sizes
from methods.layers.extraction import surface_of
from methods.mar3d import foresee
from methods.mar3d.decoding import reconstruct
from methods.mar3d.latents import load_vae
from methods.training.devices import device_of


class VaeCeiling:
    """Borrows the stage `vae`; never trains."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Never called: the stage is mar3d's."""

    def object_flops(self, stages: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
        """See `methods.contract.Method`."""
        params, bank = {**self.params, **stages["vae"]}, self.params["reconstruction"]["bank"]
        encoded, decoded = foresee.encoding_flops(params, bank, sizes), foresee.decoding_flops(params, bank)
        return {"sample": encoded, "decode": decoded}

    def load(self, stages: Mapping[str, Path], device: str) -> VaeCeiling:
        """Load the VAE. Raises ImportError where the variant's extraction needs a package that is not here."""
        surface_of(self.params["extraction"]["surface"])
        self.vae, _ = load_vae(stages["vae"], device_of(device))
        self.precision: str = self.params["reconstruction"]["precision"]
        return self

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Sample],
    ) -> list[Mesh | Failure]:
        """Reconstructions of the prepared surface points, in the view frame."""
        wanted, extraction = self.params["reconstruction"], self.params["extraction"]
        return reconstruct(self.vae, ground_truth, **wanted, extraction=extraction)
