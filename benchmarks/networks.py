"""The networks of a scale with random weights, made-up inputs, and what a machine's matrix products reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, spread
from benchmarks.options import Options
from core.randomness import seed_of
from methods.registry import resolve
from methods.training.loop import autocast, seeded

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def params_of(method: str, options: Options) -> Mapping[str, Any]:
    """The params of a method's `full` variant (or first one) at the scale; `smoke` if quick."""
    variant = {"mar3d": "full", "dit": "cascade"}[method]
    return resolve(method, variant, "smoke" if options.quick else options.scale).params


def randomised(build: Callable[[], nn.Module], *names: str | int, device: str) -> nn.Module:
    """A module with weights that depend on `names`, where also layers that start at zero are not zero.

    A diffusion head that starts at zero predicts nothing: its samples would not show an error before it.
    """
    module = seeded(build, "benchmarks", *names)
    generator = torch.Generator().manual_seed(seed_of("benchmarks", "zeros", *names))
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.02, generator=generator)
    return module.to(device)


def images(batch: int, size: int, device: str) -> Tensor:
    """Noise as RGBA images (batch, size, size, 4) uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, size, size, 4), generator=generator, dtype=torch.uint8).to(device)


def wait_of(device: str) -> Callable[[], Any]:
    """What blocks until the device is done."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def matmul_rate(precision: str, device: str, *, quick: bool = False) -> float:
    """FLOP/s of the best of several square matrix products: what this machine's threads reach at the most."""
    best = 0.0
    for size in (256, 512) if quick else (512, 1024, 2048) if device == "cpu" else (2048, 4096, 8192):
        a, b = (torch.randn(size, size, device=device, dtype=PRECISIONS[precision]) for _ in range(2))
        taken = interleaved({"product": lambda a=a, b=b: a @ b}, rounds=5, wait=wait_of(device))["product"]
        best = max(best, 2 * size**3 / spread(taken).median)
    return best


def cast(options: Options, precision: str) -> torch.autocast:
    """Autocast of the device."""
    return autocast(torch.device(options.device), precision)
