"""The networks of a scale with random weights, made-up inputs, and what a machine's matrix products reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import Spread, interleaved, nothing, spread
from benchmarks.options import Options
from core.randomness import seed_of
from methods.contract import Sizes
from methods.foresee import sizes
from methods.registry import resolve
from methods.training.loop import autocast, seeded

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def params_of(method: str, options: Options) -> Mapping[str, Any]:
    """The params of a method's `full` variant (or first one) at the scale; `smoke` if quick."""
    variant = {"mar3d": "full", "dit": "cascade"}[method]
    return resolve(method, variant, "smoke" if options.quick else options.scale).params


def sizes_of(options: Options) -> Sizes:
    """Surface points and pixels that the scale's configuration prepares."""
    return sizes.sizes_of(sizes.configuration("smoke" if options.quick else options.scale))


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
    return torch.cuda.synchronize if device == "cuda" else nothing


@dataclass(frozen=True)
class Product:
    """A square matrix product and its FLOPs: what a machine's matrix units reach at the most.

    It is timed in the same rounds as what is compared with it, since the rate changes with whatever else runs.
    """

    call: Callable[[], Any]
    flops: float

    def shares(self, flops: float, taken: Sequence[float], own: Sequence[float]) -> Spread:
        """Of its rate, round by round, what a call of so many FLOPs reached in `taken` where it took `own` itself."""
        return spread([flops / seconds / (self.flops / product) for seconds, product in zip(taken, own, strict=True)])

    def told(self, flops: float, taken: Sequence[float], own: Sequence[float]) -> str:
        """The same in words, with the rate."""
        share, rate = self.shares(flops, taken, own), self.flops / spread(own).median
        return (
            f"{share.median:.0%} [{share.low:.0%}, {share.high:.0%}] of the rate of a square matrix product in the same"
            f" rounds, {rate / 1e9:.0f} GFLOP/s"
        )


def square_product(precision: str, device: str, *, quick: bool = False) -> Product:
    """The square product of the size at which this machine is fastest."""
    found: dict[float, Product] = {}
    for size in (256, 512) if quick else (512, 1024, 2048) if device == "cpu" else (2048, 4096, 8192):
        a, b = (torch.randn(size, size, device=device, dtype=PRECISIONS[precision]) for _ in range(2))
        product = Product(partial(torch.matmul, a, b), 2.0 * size**3)
        taken = interleaved({"product": product.call}, rounds=5, wait=wait_of(device))["product"]
        found[product.flops / spread(taken).median] = product
    return found[max(found)]


class _Calls(TorchDispatchMode):
    """Counts the library's calls while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += 1
        return func(*args, **(kwargs or {}))


def empty_calls(call: Callable[[], Any], seconds: float, device: str) -> str:
    """How many calls of the library `call` makes, and which share of its seconds as many empty ones take, in words."""
    with _Calls() as counted:
        call()
    one, many = torch.zeros(1, device=device), 1000

    def nothing_done() -> None:
        for _ in range(many):
            one.add(1.0)

    each = spread(interleaved({"empty": nothing_done}, rounds=5, wait=wait_of(device))["empty"]).median / many
    return (
        f"{counted.n:,} calls of torch, of which as many empty ones take {counted.n * each / seconds:.0%} of the time"
    )


def cast(options: Options, precision: str) -> torch.autocast:
    """Autocast of the device."""
    return autocast(torch.device(options.device), precision)
