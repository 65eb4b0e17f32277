"""Control: one mesh for every image, the surface of the mean occupancy of the training shapes.

The stored volume queries of an object are uniform in the box, each with its label. Turned into an upright view's
frame and dropped on the nearest nodes of a grid, over many objects they estimate the mean occupancy there; a Gaussian
over both the hits and the counts fills nodes that few queries reached. The surface is taken at the level whose
volume is the mean volume of the shapes, because 0.5 would shrink to what most shapes share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.ndimage import gaussian_filter

from core.box import BOUND
from core.files import atomic_path
from core.progress import Progress
from core.randomness import numpy_rng
from data.store import Split
from methods.contract import Failure, Mesh, PreparedData
from methods.layers.extraction import surface


def mean_occupancy(split: Split, objects: Sequence[int], cells: int, smoothing: float) -> tuple[np.ndarray, float]:
    """Mean occupancy in [0, 1] at the (cells + 1)^3 nodes over all upright views, and the mean volume (box units)."""
    size = cells + 1
    counts, hits = np.zeros(size**3), np.zeros(size**3)
    volumes = []
    progress = Progress("mean occupancy", len(objects))
    for done, i in enumerate(objects, 1):
        positions, labels, n_volume = split.occupancy(i)
        positions, labels = positions[:n_volume], labels[:n_volume]
        for v in split.upright_views:
            view = split.view(i, v)
            nodes = np.rint((view.apply(positions) + BOUND) * (cells / (2 * BOUND))).astype(np.int64)
            inside = ((nodes >= 0) & (nodes <= cells)).all(axis=1)
            flat = nodes[inside] @ np.array([size * size, size, 1])
            counts += np.bincount(flat, minlength=size**3)
            hits += np.bincount(flat, weights=labels[inside], minlength=size**3)
            volumes.append(labels.mean() * (2 * BOUND * view.scale) ** 3)
        progress.update(done)
    counts, hits = (gaussian_filter(x.reshape(size, size, size), smoothing, mode="constant") for x in (counts, hits))
    return hits / np.maximum(counts, 1e-9), float(np.mean(volumes))


def level_of_volume(values: np.ndarray, volume: float) -> float:
    """The level above which the nodes of a grid over the box enclose `volume` (box units)."""
    cell = (2 * BOUND / (len(values) - 1)) ** 3
    count = int(np.clip(round(volume / cell), 1, values.size - 1))
    descending = np.sort(values, axis=None)[::-1]
    return float((descending[count - 1] + descending[count]) / 2)


class MeanShape:
    """Stage `mean`: `weights.safetensors` with the mesh's vertices (n, 3) and faces (m, 3)."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Average the training shapes; takes seconds to minutes, so a killed run starts over."""
        params = self.params["mean"]
        split = Split(data.folder, "train")
        rng = numpy_rng(data.dataset, data.scale, "mean_shape")
        objects = np.sort(rng.permutation(len(split))[: params["objects"]]).tolist()
        values, volume = mean_occupancy(split, objects, params["resolution"], params["smoothing"])
        mesh = surface(values - level_of_volume(values, volume))
        if mesh is None:
            raise ValueError(f"the mean of {len(objects)} shapes has no surface: their mean volume is {volume:.4f}")
        with atomic_path(out / "weights.safetensors") as temporary:
            save_file({"vertices": mesh[0], "faces": mesh[1]}, temporary)

    def load(self, stages: Mapping[str, Path], device: str) -> MeanShape:
        """Read the mesh."""
        self.arrays = load_file(stages["mean"] / "weights.safetensors")
        return self

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Any] | None = None,
    ) -> list[Mesh | Failure]:
        """The same mesh for each image."""
        return [Mesh(self.arrays["vertices"], self.arrays["faces"]) for _ in images]
