"""A minimal method: an ellipsoid as wide and high as the silhouette, with the mean depth of the training shapes.

It shows the whole contract of `methods/contract.py` in one page. Import torch here at the top if you use it: the
harness then picks the GPU and fixes the threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from skimage.measure import marching_cubes

from core.files import atomic_path
from data.store import Split
from methods.contract import Failure, Mesh, PreparedData

LONGEST_SIDE = 1.9  # of every object in its view frame


class SilhouetteEllipsoid:
    """One stage, `depth`: the mean depth of a shape as a share of its longest side."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Measure the training shapes in their upright views."""
        split = Split(data.folder, "train")
        views = [(i, v) for i in range(min(len(split), self.params["depth"]["objects"])) for v in split.upright_views]
        depths = [np.ptp(split.sample(i, v).surface()[0][:, 2]) / LONGEST_SIDE for i, v in views]
        with atomic_path(out / "weights.safetensors") as temporary:  # weights are whole or absent
            save_file({"depth": np.array([np.mean(depths)], np.float32)}, temporary)

    def load(self, stages: Mapping[str, Path], device: str) -> SilhouetteEllipsoid:
        """Read the weights of each stage from the folder that `fit` filled."""
        self.depth = float(load_file(stages["depth"] / "weights.safetensors")["depth"][0])
        return self

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Any] | None = None,
    ) -> list[Mesh | Failure]:
        """One ellipsoid per image; all randomness comes from that image's generator."""
        return [self._mesh(image, rng) for image, rng in zip(images, rngs, strict=True)]

    def _mesh(self, image: np.ndarray, rng: np.random.Generator) -> Mesh | Failure:
        rows, columns = np.nonzero(image[..., 3] > 127)
        if len(rows) == 0:
            return Failure("the image is empty")
        width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
        depth = self.depth + self.params["sample"]["noise"] * rng.standard_normal()
        sides = np.array([width, height, max(depth, 0.05) * max(width, height)])
        sides = sides * (LONGEST_SIDE / sides.max())
        grid = np.stack(np.meshgrid(*[np.linspace(-1.1, 1.1, 33)] * 3, indexing="ij"), -1)
        ball, faces, _, _ = marching_cubes(1 - np.linalg.norm(grid, axis=-1), 0.0, gradient_direction="ascent")
        unit = ball * (2.2 / 32) - 1.1
        return Mesh((unit * sides / 2).astype(np.float32), faces.astype(np.int32))
