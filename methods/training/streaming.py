"""Prepared objects that are too many for the device: rows read from the shards as they are drawn.

The loop draws ahead in threads (`methods.training.prefetch`), so that reading and decoding go on beside the step. Same
draws, same batches as from what is held in memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from core.progress import Progress
from data.store import Split
from methods.training.devices import to_device
from methods.training.pool import Surfaced, SurfacePool

GB = 10**9
DATA_SHARE = 0.4
"""Of a GPU's memory, the most that data may take, whatever their kinds; the rest is for the steps."""
BLOCK = 256
"""Images that are copied to the device together."""


def fits(size: int, device: torch.device, memory_gb: float) -> bool:
    """Whether data of that many bytes may lie on the device, beside those that lie there already."""
    if device.type != "cuda" or size > memory_gb * GB:
        return size <= memory_gb * GB
    torch.cuda.empty_cache()  # what torch holds and nobody uses is free
    free, total = torch.cuda.mem_get_info(device)
    return free - size >= (1 - DATA_SHARE) * total


class SurfaceStream(Surfaced):
    """Surfaces and occupancy read from the shards; see `Surfaced`."""

    def canonical(self, objects: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Surfaced.canonical`."""
        chosen = [slice(None)] * len(objects) if rows is None else rows.numpy()
        read = [self.split.surface(i, r) for i, r in zip(objects.tolist(), chosen, strict=True)]
        points, normals = (np.stack(part).astype(np.float16) for part in zip(*read, strict=True))
        return to_device(points, self.device), to_device(normals, self.device)

    def occupancy(self, objects: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """See `Surfaced.occupancy`."""
        rows = [self.split.occupancy_at(i, p) for i, p in zip(objects.tolist(), pick.cpu().numpy(), strict=True)]
        queries, labels = zip(*rows, strict=True)
        return to_device(np.stack(queries).astype(np.float16), self.device), to_device(np.stack(labels), self.device)


def surfaces_of(
    split: Split, device: torch.device, *, memory_gb: float, readers: int = 1, occupancy: bool = True
) -> Surfaced:
    """The split on the device if it `fits`, else streamed."""
    if fits(SurfacePool.size(split, occupancy=occupancy), device, memory_gb):
        return SurfacePool(split, device, occupancy=occupancy, readers=readers)
    return SurfaceStream(split, device)


class Images:
    """Condition images of a split; each is decoded once and stays on the device, if all of them `fits`."""

    def __init__(self, split: Split, device: torch.device, *, memory_gb: float) -> None:
        self.split, self.device = split, device
        shape = (len(split), split.n_views, split.image_size, split.image_size, 4)
        room = fits(int(np.prod(shape, dtype=np.int64)), device, memory_gb)
        self.kept = torch.empty(shape, dtype=torch.uint8, device=device) if room else None
        self.decoded = np.zeros(shape[:2], bool)

    def decode(self, threads: int) -> None:
        """Decode all that stay on the device, before the steps, which would wait for each at its first draw."""
        if self.kept is None:
            return
        objects, views = np.nonzero(~self.decoded)
        progress, block = Progress("decode", len(objects)), np.empty((BLOCK, *self.kept.shape[2:]), np.uint8)

        def put(place: int, i: int, v: int) -> None:
            block[place] = self.split.image(i, v)

        with ThreadPoolExecutor(threads) as pool:
            for first in range(0, len(objects), BLOCK):
                i, v = objects[first : first + BLOCK], views[first : first + BLOCK]
                list(pool.map(put, range(len(i)), i.tolist(), v.tolist()))
                images = to_device(block[: len(i)], self.device)
                self.kept[torch.from_numpy(i), torch.from_numpy(v)] = images
                self.decoded[i, v] = True
                progress.update(first + len(i))

    def rows(self, objects: Tensor, views: Tensor) -> Tensor:
        """Images (b, h, w, 4) uint8 on the device. objects, views: (b,) int64 on the CPU."""
        pairs = list(zip(objects.tolist(), views.tolist(), strict=True))
        if self.kept is None:
            return to_device(np.stack([self.split.image(i, v) for i, v in pairs]), self.device)
        for i, v in pairs:
            if not self.decoded[i, v]:
                self.kept[i, v] = to_device(self.split.image(i, v).copy(), self.device)
                self.decoded[i, v] = True
        return self.kept[to_device(objects, self.device), to_device(views, self.device)]


class Rows:
    """Tensors of a safetensors file with axes (object, view, …), on the device or, if too large, left on disk."""

    def __init__(self, path: Path, device: torch.device, *, memory_gb: float) -> None:
        self.device, self.file = device, safe_open(path, framework="np")
        room, names = fits(path.stat().st_size, device, memory_gb), self.file.keys()
        self.kept = {name: torch.from_numpy(self.file.get_tensor(name)).to(device) for name in names} if room else None

    def rows(self, name: str, objects: Tensor, views: Tensor) -> Tensor:
        """Rows (b, …) of a tensor, on the device."""
        if self.kept is not None:
            return self.kept[name][to_device(objects, self.device), to_device(views, self.device)]
        stored = self.file.get_slice(name)
        rows = [stored[i : i + 1, v : v + 1] for i, v in zip(objects.tolist(), views.tolist(), strict=True)]
        return to_device(np.concatenate(rows)[:, 0], self.device)
