"""Random draws of a whole batch, of which each process takes its rows.

A step's draws are a function of (stage, seed, step) for the whole batch, whoever computes it: a process, or a piece of
an accumulated batch, draws everything and keeps its share. As all shares are equal and losses are means over rows, the
mean of their losses and gradients is that of one process.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Share:
    """Part `index` of `of` equal parts of the batch of a training's step (from 0).

    Shapes below are of the part; `dim` is the axis of the rows.
    """

    index: int = 0
    of: int = 1
    step: int = 0

    def rows(self, whole: Tensor, dim: int = 0) -> Tensor:
        """This part's rows of a tensor of the whole batch."""
        length = whole.shape[dim] // self.of
        return whole.narrow(dim, self.index * length, length)

    def normal(
        self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device = CPU, dim: int = 0
    ) -> Tensor:
        """Standard normal numbers."""
        source, place = _source(generator, device)
        return self.rows(torch.randn(self._whole(shape, dim), generator=source, device=place), dim).to(device)

    def uniform(
        self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device = CPU, dim: int = 0
    ) -> Tensor:
        """Numbers of [0, 1)."""
        source, place = _source(generator, device)
        return self.rows(torch.rand(self._whole(shape, dim), generator=source, device=place), dim).to(device)

    def integers(
        self,
        low: int,
        high: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        device: torch.device = CPU,
        dim: int = 0,
    ) -> Tensor:
        """Integers (int64) from low to high - 1."""
        source, place = _source(generator, device)
        whole = torch.randint(low, high, self._whole(shape, dim), generator=source, device=place)
        return self.rows(whole, dim).to(device)

    def _whole(self, shape: tuple[int, ...], dim: int) -> list[int]:
        return [n * self.of if axis == dim else n for axis, n in enumerate(shape)]


WHOLE = Share()
"""The whole batch: one process, one piece."""


def _source(generator: torch.Generator, device: torch.device) -> tuple[torch.Generator, torch.device]:
    """Where to draw: for a GPU from a stream on it that `generator` seeds, elsewhere from `generator` itself.

    A step of MAR takes millions of numbers, which would cost a CPU more time than the step has.
    """
    if device.type != "cuda" or generator.device.type == "cuda":
        return generator, generator.device
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.Generator(device).manual_seed(seed), device
