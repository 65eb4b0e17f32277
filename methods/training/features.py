"""What frozen image encoders make of the training views, cached on disk: computed once, read at random.

    {root}/{kind}-{key}/00000.safetensors      features (rows, tokens, width) float16; row = object * views + view

The key is a hash of the model's weights, of the code that prepares images for it, of its precision and of the images,
so that whoever uses the same model on the same data shares the cache (`clip_only` and `concat` share CLIP's), and
nothing else does. `root` is $IMAGE_FEATURES, or else `features/` in the folder of the prepared data. A file appears
whole or not at all, so that a killed run goes on with the next one. Where the features of all views would take more
than the encoder's `cache_gb`, they are computed as images are drawn; which of the two it is, is said.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from core.errors import UserError
from core.files import locked, write_json
from core.identity import params_key, source_hash
from core.progress import Progress
from data.store import Split
from methods import manifest
from methods.layers.clip_dinov2 import ClipDinov2
from methods.layers.frozen_vit import FrozenViT
from methods.training.checkpoint import save_tensors
from methods.training.devices import to_device

ENVIRONMENT = "IMAGE_FEATURES"
"""The variable that names another folder for the cache, such as a faster disk."""
ROWS = 512
"""Views in one file: 0.27 GB of a model at the paper's sizes."""
BATCH = 64
CODE = ("methods/layers/frozen_vit.py", "methods/layers/pixels.py")


class FeatureCache:
    """The features of one frozen model for every view of a split."""

    def __init__(self, folder: Path, rows: int, tokens: int, width: int) -> None:
        self.folder, self.rows, self.tokens, self.width = folder, rows, tokens, width
        self._starts: dict[int, int] = {}

    def path(self, number: int) -> Path:
        """The file of rows `ROWS * number` and on."""
        return self.folder / f"{number:05d}.safetensors"

    def fill(self, load: Callable[[], FrozenViT], split: Split) -> None:
        """Compute what is not there yet. Of several processes one computes, and the others wait for it.

        load: gives the model; not called where nothing is missing.
        """
        files = range(-(-self.rows // ROWS))
        if all(self.path(number).exists() for number in files):
            return
        with locked(self.folder / "lock"):
            missing = [number for number in files if not self.path(number).exists()]
            model = load() if missing else None
            progress = Progress(f"features {self.folder.name}", len(files), done=len(files) - len(missing))
            for done, number in enumerate(missing, len(files) - len(missing) + 1):
                rows = range(number * ROWS, min(self.rows, (number + 1) * ROWS))
                parts = [_encode(model, split, rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
                features = torch.cat(parts)
                if not features.isfinite().all():
                    raise UserError(
                        f"{model.shape.kind} gives features beyond float16; its weights are not what they say"
                    )
                save_tensors(self.path(number), {"features": features})
                progress.update(done)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Features (b, tokens, width) float16 of rows."""
        size = self.tokens * self.width
        found = np.empty((len(rows), size), np.float16)
        for into, row in zip(found, rows, strict=True):
            start = self._start(row // ROWS) + 2 * size * (row % ROWS)
            # Opened for each row: a file that stays mapped holds a descriptor, of which a process has about 1,000.
            into[:] = np.fromfile(self.path(row // ROWS), np.float16, size, offset=start)
        return found.reshape(len(rows), self.tokens, self.width)

    def _start(self, number: int) -> int:
        """Where the rows of a file begin, in bytes. Raises UserError for a file that is not what it should be."""
        if number not in self._starts:
            path = self.path(number)
            try:
                with safe_open(path, framework="np") as file:
                    shape = file.get_slice("features").get_shape()
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} cannot be read ({error}): delete it, and it is made again") from error
            expected = [min(ROWS, self.rows - number * ROWS), self.tokens, self.width]
            if shape != expected:
                raise UserError(f"{path} holds {shape}, not {expected}: delete it, and it is made again")
            # Rows are read past safetensors, whose slices take five times as long. The one tensor ends the file.
            self._starts[number] = path.stat().st_size - 2 * math.prod(expected)
        return self._starts[number]


class CachedFeatures:
    """The features of an encoder's models side by side, for every view of a split."""

    def __init__(self, caches: Sequence[FeatureCache], views: int, device: torch.device) -> None:
        self.caches, self.views, self.device = caches, views, device

    def rows(self, objects: Tensor, views: Tensor) -> Tensor:
        """Features (b, tokens, all widths) float16 of objects and views, each (b,) int64: `ClipDinov2.features`."""
        rows = (objects * self.views + views).tolist()
        features = np.concatenate([cache.read(rows) for cache in self.caches], -1)
        return to_device(features, self.device)


def feature_bytes(encoder: ClipDinov2, views: int) -> dict[str, int]:
    """What the features of that many views take, of each frozen model."""
    return {kind: views * shape.tokens * shape.width * 2 for kind, shape in encoder.shapes.items()}


def cached_features(encoder: nn.Module, split: Split, device: torch.device) -> CachedFeatures | None:
    """The cache of an encoder's features for a split, filled; None where they are computed as images are drawn."""
    if not isinstance(encoder, ClipDinov2):
        return None
    rows = len(split) * split.n_views
    sizes = feature_bytes(encoder, rows)
    total, budget = sum(sizes.values()) / 1e9, encoder.cache_gb
    facts = f"{rows} views take {total:.3g} GB, image_encoder.clip_dinov2.cache_gb is {budget:g}"
    if total > budget:
        print(f"image features are computed as images are drawn: {facts}", file=sys.stderr, flush=True)
        return None
    root = Path(os.environ.get(ENVIRONMENT) or split.folder / "features")
    print(f"image features are cached in {root}: {facts}", file=sys.stderr, flush=True)
    data, caches = manifest.data_hash(split.folder, split.name), []
    for kind, own in encoder.identity.items():
        shape = encoder.shapes[kind]
        about = {"weights": own["sha256"], "precision": encoder.precision, "size": shape.size}
        about |= {"code": source_hash(*CODE), "data": data, "split": split.name}
        cache = FeatureCache(root / f"{kind}-{params_key(about)}", rows, shape.tokens, shape.width)
        _check_room(cache.folder, sizes[kind])
        write_json(cache.folder / "about.json", {"model": own["model"], **about, "views": rows})
        cache.fill(functools.partial(encoder.frozen, kind, device), split)
        caches.append(cache)
    return CachedFeatures(caches, split.n_views, device)


def _encode(model: FrozenViT, split: Split, rows: range) -> Tensor:
    images = np.stack([split.image(row // split.n_views, row % split.n_views) for row in rows])
    return model.features(torch.from_numpy(images).to(model.device)).cpu()


def _check_room(folder: Path, size: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): set {ENVIRONMENT} to a folder for it") from error
    needed = size - sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"image features need {needed / 1e9:.3g} GB in {folder}, where {free / 1e9:.3g} GB are free: lower "
            f"image_encoder.clip_dinov2.cache_gb, or set {ENVIRONMENT} to a folder with room"
        )
