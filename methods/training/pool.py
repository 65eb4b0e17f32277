"""Prepared objects held on one device as compact tensors, and the batches drawn from them.

Points and queries are stored in the canonical frame; a batch is moved into the frame of a view (rotated,
re-normalised) as it is drawn, so that shape and condition image agree (MAR-3D, section 3: view-centric).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from core.box import BOUND
from core.progress import Progress
from data.store import Split
from methods.training.devices import to_device
from methods.training.draws import WHOLE, Share

INSIDE = 0.97
"""No solid reaches beyond this in the canonical frame: longest side 1.9, thin sheets up to 0.016 thicker."""


@dataclass(frozen=True)
class Surfaces:
    """A batch in the view frame. points, normals: (b, n, 3); queries: (b, q, 3); labels: (b, q) float32."""

    points: Tensor
    normals: Tensor
    queries: Tensor
    labels: Tensor


def draw_views(n: int, upright: int, total: int, rotated_share: float, generator: torch.Generator) -> Tensor:
    """`n` view numbers: a rotated one (upright … total - 1) with probability `rotated_share`, else an upright one."""
    turned = torch.rand(n, generator=generator) < (rotated_share if total > upright else 0.0)
    low = torch.randint(0, upright, (n,), generator=generator)
    return torch.where(turned, torch.randint(upright, max(total, upright + 1), (n,), generator=generator), low)


def view_shares(upright: int, total: int, rotated_share: float) -> Tensor:
    """How often `draw_views` takes each view: (total,), summing to 1."""
    rotated = total - upright
    turned = rotated_share if rotated else 0.0
    each = [(1 - turned) / upright] * upright + [turned / max(1, rotated)] * rotated
    return torch.tensor(each, dtype=torch.float64)


class Surfaced(ABC):
    """The surfaces and occupancy of a split's objects, in the frames of their views. A subclass says where they lie.

    objects, views below are (b,) int64, on any device; what is returned lies on `device`.
    """

    def __init__(self, split: Split, device: torch.device) -> None:
        self.split, self.device = split, device
        self.n_volume, self.n_queries = split.params["volume"], split.params["volume"] + split.params["near"]
        self.stored, self.drawn = split.params["points"], split.drawn
        self.rotation, self.scale, self.offset = (torch.from_numpy(table).to(device) for table in split.view_tables())

    def __len__(self) -> int:
        return len(self.split)

    @abstractmethod
    def canonical(self, objects: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Points and normals (b, n, 3) float16 in the canonical frame: all, or those at rows (b, n)."""

    @abstractmethod
    def occupancy(self, objects: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (b, q, 3) float16 and labels (b, q) bool at places pick (b, q), in the canonical frame."""

    def _to_view(self, x: Tensor, objects: Tensor, views: Tensor) -> Tensor:
        rotated = x.float() @ self.rotation[objects, views].transpose(1, 2)
        return rotated * self.scale[objects, views, None, None] - self.offset[objects, views, None]

    def _drawn_rows(self, n: int, generator: torch.Generator | None, share: Share) -> Tensor | None:
        """Places (n, drawn) of a window of each object's points, which lie in random order; None for all of them."""
        if self.drawn == self.stored:
            return None
        first = torch.zeros(n, dtype=torch.int64)
        if generator is not None:
            first = share.integers(0, self.stored, (n,), generator)
        return (first[:, None] + torch.arange(self.drawn)) % self.stored

    def surface(
        self, objects: Tensor, views: Tensor, generator: torch.Generator | None = None, share: Share = WHOLE
    ) -> tuple[Tensor, Tensor]:
        """Points and normals, each (b, drawn, 3) float32, in the frame of the views.

        Of an object of which more are stored, a random window of them, so that its cloud and the prefixes that are its
        coarser levels differ from draw to draw; without a generator the first ones, as in `data.store.Sample`.
        """
        points, normals = self.canonical(objects, self._drawn_rows(len(objects), generator, share))
        objects, views = to_device(objects, self.device), to_device(views, self.device)
        return self._to_view(points, objects, views), normals.float() @ self.rotation[objects, views].transpose(1, 2)

    def batch(
        self,
        objects: Tensor,
        views: Tensor,
        *,
        volume: int,
        near: int,
        generator: torch.Generator,
        share: Share = WHOLE,
    ) -> Surfaces:
        """Surfaces with `volume` uniform and `near` near-surface queries each, in the frame of the views.

        objects, views: the share's.
        """
        b = len(objects)
        points, normals = self.surface(objects, views, generator, share)
        pick = torch.cat(
            [
                share.integers(0, self.n_volume, (b, volume), generator),
                share.integers(self.n_volume, self.n_queries, (b, near), generator),
            ],
            1,
        )
        queries, labels = self.occupancy(objects, pick)
        objects, views = to_device(objects, self.device), to_device(views, self.device)
        queries = self._to_view(queries, objects, views)
        # The stored box, rotated, leaves corners of the view's box without queries; what lies there is empty.
        uniform = (to_device(share.uniform((b, volume, 3), generator), self.device) * 2 - 1) * BOUND
        offset, scale = self.offset[objects, views, None], self.scale[objects, views, None, None]
        back = ((uniform + offset) / scale) @ self.rotation[objects, views]
        empty = back.abs().amax(-1) > INSIDE
        empty = torch.cat([empty, empty.new_zeros(b, near)], 1)
        queries = torch.where(empty[..., None], torch.cat([uniform, queries[:, volume:]], 1), queries)
        return Surfaces(points, normals, queries, (labels & ~empty).float())


class SurfacePool(Surfaced):
    """All of a split on one device, decoded; `readers` threads read it."""

    def __init__(self, split: Split, device: torch.device, *, occupancy: bool = True, readers: int = 1) -> None:
        super().__init__(split, device)
        n, stored = len(split), split.params["points"]
        self.points = torch.empty((n, stored, 3), dtype=torch.float16, device=device)
        self.normals = torch.empty((n, stored, 3), dtype=torch.float16, device=device)
        if occupancy:
            self.queries = torch.empty((n, self.n_queries, 3), dtype=torch.float16, device=device)
            self.labels = torch.empty((n, self.n_queries), dtype=torch.bool, device=device)

        def read(i: int) -> None:
            points, normals = split.surface(i)
            self.points[i], self.normals[i] = torch.from_numpy(points), torch.from_numpy(normals)
            if occupancy:
                queries, labels, _ = split.occupancy(i)
                self.queries[i], self.labels[i] = torch.from_numpy(queries), torch.from_numpy(labels)

        progress = Progress("load", n)
        with ThreadPoolExecutor(max(1, readers)) as threads:
            for i, _ in enumerate(threads.map(read, range(n))):
                progress.update(i + 1)

    @staticmethod
    def size(split: Split, *, occupancy: bool = True) -> int:
        """Bytes that the pool of a split takes."""
        queries = 7 * (split.params["volume"] + split.params["near"]) if occupancy else 0
        return len(split) * (12 * split.params["points"] + queries)

    def canonical(self, objects: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Surfaced.canonical`."""
        objects = to_device(objects, self.device)
        if rows is None:
            return self.points[objects], self.normals[objects]
        objects, rows = objects[:, None], to_device(rows, self.device)
        return self.points[objects, rows], self.normals[objects, rows]

    def occupancy(self, objects: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        """See `Surfaced.occupancy`."""
        rows, pick = to_device(objects, self.device)[:, None], to_device(pick, self.device)
        return self.queries[rows, pick], self.labels[rows, pick]
