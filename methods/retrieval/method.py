"""Control: the training mesh whose view looks most like the condition image; what memorising alone would score.

A view's feature is its gradient histogram (HOG) on a white background beside its coarse silhouette, each of unit
length, so that the product of two features is the sum of two cosines. The index keeps features and names of views;
the meshes stay in the prepared shards, whose place is stored relative to the index.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from skimage.feature import hog
from skimage.transform import resize

from core.errors import UserError
from core.files import atomic_path
from core.progress import Progress
from data.store import Split
from methods.contract import Failure, Mesh, PreparedData


def feature(image: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    """Feature (d,) float32 of an RGBA image (h, w, 4) uint8 with straight alpha."""
    pixels = image.astype(np.float32) / 255
    alpha = pixels[..., 3]
    grey = (pixels[..., :3].mean(axis=-1) * alpha) + (1 - alpha)
    size = params["image_size"]
    cell = params["cell"]
    gradients = hog(
        resize(grey, (size, size), anti_aliasing=True),
        orientations=params["orientations"],
        pixels_per_cell=(cell, cell),
        cells_per_block=(2, 2),
    )
    outline = resize(alpha, (params["silhouette"],) * 2, anti_aliasing=True).ravel()
    return np.concatenate([_unit(gradients), _unit(outline)]).astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


class Retrieval:
    """Stage `index`: features (n, d) float16 and views (n, 2) int32 of object index and view index."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params["index"]

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Compute the features of the first `views` views of each training object, the upright ones first."""
        split = Split(data.folder, "train")
        views = [(i, v) for i in range(len(split)) for v in range(min(self.params["views"], split.n_views))]
        progress = Progress("retrieval index", len(views))
        features = []
        for done, (i, v) in enumerate(views, 1):
            features.append(feature(split.image(i, v), self.params).astype(np.float16))
            progress.update(done)
        arrays = {"features": np.stack(features), "views": np.array(views, np.int32)}
        header = {"prepared": os.path.relpath(data.folder, out), "objects": split.objects}
        with atomic_path(out / "weights.safetensors") as temporary:
            save_file(arrays, temporary, {"index": json.dumps(header)})

    def load(self, stages: Mapping[str, Path], device: str) -> Retrieval:
        """Read the features; find the prepared shards again."""
        with safe_open(stages["index"] / "weights.safetensors", framework="np") as file:
            header = json.loads(file.metadata()["index"])
            self.features, self.views = file.get_tensor("features").astype(np.float32), file.get_tensor("views")
        folder = Path(os.path.normpath(stages["index"] / header["prepared"]))
        self.split = Split(folder, "train")
        if self.split.objects != header["objects"]:
            raise UserError(f"{folder} holds other objects than the retrieval index was made of: fit the index again")
        return self

    def nearest(self, image: np.ndarray) -> tuple[int, int]:
        """Object index and view index of the most similar training view."""
        i, v = self.views[int(np.argmax(self.features @ feature(image, self.params)))]
        return int(i), int(v)

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Any] | None = None,
    ) -> list[Mesh | Failure]:
        """The nearest views' training meshes, each in the frame of its view."""
        return [Mesh(*self.split.sample(*self.nearest(image)).mesh()) for image in images]
