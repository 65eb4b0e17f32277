"""Rectified flow: straight paths from data (time 0) to noise (time 1), and Euler steps back along them.

x_t = (1 - t) x0 + t noise, velocity = noise - x0 (Liu et al., Flow Straight and Fast, ICLR 2023). Times are shifted
towards the noise in training and in sampling (Esser et al., Scaling Rectified Flow Transformers, ICML 2024).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x (b, ...), t (b,) in [0, 1]) -> the velocity there, in the shape of x."""


def shifted(t: Tensor, shift: float) -> Tensor:
    """Times of [0, 1] moved towards 1: shift t / (1 + (shift - 1) t)."""
    return shift * t / (1 + (shift - 1) * t)


def flow_loss(velocity: Velocity, x0: Tensor, *, t: Tensor, noise: Tensor) -> Tensor:
    """Squared error of the velocity (b,), averaged over all but the first axis. x0, noise: (b, n, c); t: (b,)."""
    at = t[:, None, None]
    error = velocity((1 - at) * x0 + at * noise, t).float() - (noise - x0)
    return error.square().flatten(1).mean(1)


@torch.no_grad()
def euler(velocity: Velocity, noise: Tensor, *, steps: int, shift: float) -> Tensor:
    """From noise (b, n, c) at time 1 to data at time 0, in `steps` steps, equal before the shift."""
    times = shifted(torch.linspace(1, 0, steps + 1, device=noise.device), shift)
    x = noise
    for now, following in itertools.pairwise(times):
        x = x + (following - now) * velocity(x, now.expand(len(x))).float()
    return x
