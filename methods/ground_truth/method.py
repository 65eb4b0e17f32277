"""Control: the true mesh itself. Its score is the floor of the protocol (sampling noise, alignment)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.store import Sample
from methods.contract import Failure, Mesh, PreparedData


class GroundTruth:
    """Has no stages; hands back what it is handed."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        pass

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Never called: there is no stage."""

    def load(self, stages: Mapping[str, Path], device: str) -> GroundTruth:
        """Nothing to load."""
        return self

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Sample],
    ) -> list[Mesh | Failure]:
        """The true meshes, in the view frame."""
        return [Mesh(*sample.mesh()) for sample in ground_truth]
