"""Fourier features of points (3DShape2VecSet and its descendants; MAR-3D: 8 octaves, no factor pi)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """(…, 3) -> (…, 3 + 6 * octaves): the raw coordinates, then sin and cos of 2^0 … 2^(octaves-1) times them."""

    frequencies: Tensor

    def __init__(self, octaves: int = 8) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(octaves), persistent=False)
        self.width = 3 + 6 * octaves

    def forward(self, points: Tensor) -> Tensor:
        angles = (points[..., None] * self.frequencies).flatten(-2)
        return torch.cat([points, angles.sin(), angles.cos()], -1)
