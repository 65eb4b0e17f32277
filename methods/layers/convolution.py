"""A 2D convolution whose kernel is a matrix, so that Muon can orthogonalise its steps like any other hidden matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MatrixConv2d(nn.Linear):
    """A padded convolution of an odd window: (b, c, h, w) -> (b, d, h / stride, w / stride).

    As `nn.Conv2d`, but its weight is (d, c * size^2), a row for each kernel, since Muon refuses more than two axes
    (Jordan et al. 2024 flatten kernels alike). Fastest in channels-last memory, which it also returns.
    """

    def __init__(self, channels: int, width: int, size: int, stride: int = 1) -> None:
        super().__init__(channels * size**2, width)
        self.channels, self.size, self.stride = channels, size, stride

    def forward(self, x: Tensor) -> Tensor:
        kernels = self.weight.unflatten(1, (self.channels, self.size, self.size))
        kernels = kernels.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, kernels, self.bias, self.stride, self.size // 2)
