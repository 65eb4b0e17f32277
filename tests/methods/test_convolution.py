"""MatrixConv2d is nn.Conv2d with its kernel laid out as a matrix."""

import pytest
import torch
from torch import nn

from methods.layers.convolution import MatrixConv2d
from methods.training.optimiser import split_parameters


@pytest.mark.parametrize("size, stride", [(3, 1), (3, 2), (1, 1), (5, 2)])
def test_it_is_a_convolution(size: int, stride: int) -> None:
    torch.manual_seed(0)
    reference = nn.Conv2d(5, 7, size, stride, padding=size // 2)
    layer = MatrixConv2d(5, 7, size, stride)
    with torch.no_grad():
        layer.weight.copy_(reference.weight.flatten(1))
        layer.bias.copy_(reference.bias)
    x = torch.randn(2, 5, 8, 12)
    torch.testing.assert_close(layer(x), reference(x), atol=1e-5, rtol=1e-4)


def test_its_kernel_is_a_hidden_matrix() -> None:
    layers = nn.Sequential(MatrixConv2d(3, 8, 3), MatrixConv2d(8, 8, 3))
    hidden, _ = split_parameters(layers, ["0."])
    assert [p.shape for p in hidden] == [(8, 72)]
