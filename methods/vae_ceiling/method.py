"""Control: encode and decode the true surface with MAR-3D's VAE; the ceiling of every generator on its latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from methods.contract import Failure, Mesh, PreparedData, Sizes
from methods.mar3d import budget
from methods.mar3d.method import reconstruct


class VaeCeiling:
    """Borrows the stage `vae`; never trains."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params["reconstruction"]

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Never called: the stage is mar3d's."""

    def object_flops(self, stages: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
        """See `methods.contract.Method`."""
        vae, bank = stages["vae"], self.params["bank"]
        decoded = budget.decoding_flops(vae, bank, {"cells": self.params["cells"]})
        return {"sample": budget.encoding_flops(vae, bank, sizes), "decode": decoded}

    def load(self, stages: Mapping[str, Path], device: str) -> VaeCeiling:
        """Remember where the VAE is."""
        self.stage, self.device = stages["vae"], device
        return self

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Any] | None = None,
    ) -> list[Mesh | Failure]:
        """Reconstructions of the prepared surface points, in the view frame."""
        if ground_truth is None:
            raise ValueError("the ground truth was not handed over; config.yaml must say reads_ground_truth: true")
        surfaces = [sample.surface() for sample in ground_truth]
        points, normals = (np.stack(arrays) for arrays in zip(*surfaces, strict=True))
        return reconstruct(self.stage, points, normals, device=self.device, **self.params)
