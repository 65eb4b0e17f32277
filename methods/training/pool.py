"""Prepared objects held in memory as compact tensors, and the batches drawn from them.

Points and queries are stored in the canonical frame; a batch is moved into the frame of a view (rotated,
re-normalised) as it is drawn, so that shape and condition image agree (MAR-3D, section 3: view-centric).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.progress import Progress
from data.store import Split

BOUND = 1.05
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


class SurfacePool:
    """Surface points, occupancy and view transforms of every object of a split, on one device."""

    def __init__(self, split: Split, device: torch.device, *, occupancy: bool = True) -> None:
        n, self.device = len(split), device
        points, normals = split.surface(0)
        self.points = torch.empty((n, *points.shape), dtype=torch.float16, device=device)
        self.normals = torch.empty((n, *normals.shape), dtype=torch.float16, device=device)
        if occupancy:
            queries, _, self.n_volume = split.occupancy(0)
            self.queries = torch.empty((n, *queries.shape), dtype=torch.float16, device=device)
            self.labels = torch.empty((n, len(queries)), dtype=torch.bool, device=device)
        progress = Progress("load", n)
        for i in range(n):
            points, normals = split.surface(i)
            self.points[i], self.normals[i] = torch.from_numpy(points), torch.from_numpy(normals)
            if occupancy:
                queries, labels, _ = split.occupancy(i)
                self.queries[i], self.labels[i] = torch.from_numpy(queries), torch.from_numpy(labels)
            progress.update(i + 1)
        views = [[split.view(i, v) for v in range(split.n_views)] for i in range(n)]

        def table(name: str) -> Tensor:
            return torch.tensor(
                np.array([[getattr(v, name) for v in row] for row in views]), dtype=torch.float32, device=device
            )

        self.rotation, self.scale, self.offset = table("rotation"), table("scale"), table("offset")

    def __len__(self) -> int:
        return len(self.points)

    def _to_view(self, x: Tensor, objects: Tensor, views: Tensor) -> Tensor:
        rotated = x.float() @ self.rotation[objects, views].transpose(1, 2)
        return rotated * self.scale[objects, views, None, None] - self.offset[objects, views, None]

    def surface(self, objects: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Points and normals, each (b, n, 3) float32, in the frame of the views. objects, views: (b,) int64."""
        normals = self.normals[objects].float() @ self.rotation[objects, views].transpose(1, 2)
        return self._to_view(self.points[objects], objects, views), normals

    def batch(self, objects: Tensor, views: Tensor, *, volume: int, near: int, generator: torch.Generator) -> Surfaces:
        """Surfaces with `volume` uniform and `near` near-surface queries each, in the frame of the views."""
        b, total = len(objects), self.queries.shape[1]
        points, normals = self.surface(objects, views)
        pick = torch.cat(
            [
                torch.randint(0, self.n_volume, (b, volume), generator=generator),
                torch.randint(self.n_volume, total, (b, near), generator=generator),
            ],
            1,
        ).to(self.device)
        rows = objects[:, None]
        queries = self._to_view(self.queries[rows, pick], objects, views)
        labels = self.labels[rows, pick]
        # The stored box, rotated, leaves corners of the view's box without queries; what lies there is empty.
        uniform = (torch.rand((b, volume, 3), generator=generator).to(self.device) * 2 - 1) * BOUND
        offset, scale = self.offset[objects, views, None], self.scale[objects, views, None, None]
        back = ((uniform + offset) / scale) @ self.rotation[objects, views]
        empty = back.abs().amax(-1) > INSIDE
        empty = torch.cat([empty, empty.new_zeros(b, near)], 1)
        queries = torch.where(empty[..., None], torch.cat([uniform, queries[:, volume:]], 1), queries)
        return Surfaces(points, normals, queries, (labels & ~empty).float())
