"""Training steps of a stage for real, on made-up data: seconds, peak memory, FLOPs."""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

from methods.contract import Step
from methods.training.flops import counted
from methods.training.loop import autocast, compile_blocks
from methods.training.optimiser import build_optimisers


@dataclass(frozen=True)
class Taken:
    """What steps took. loss: of the last step.

    seconds, flops: means over the kinds of steps by their shares, so that they belong together; of the seconds of each
    kind, the median of `timed` steps.
    peak_bytes: on a GPU the largest allocation of these steps, on a CPU the largest resident memory of this process.
    """

    seconds: float
    timed: int
    samples_per_second: float
    flops: float
    loss: float
    peak_bytes: int


def run_steps(step: Step, device: torch.device, *, repeats: int = 5, compiled: bool = False) -> Taken:
    """Whole steps: loss, backward pass, clipping, optimisers, moving average, as the training loop takes them.

    One step of each kind of draw is counted and warms up; then `repeats` of each are timed, the kinds in turn. With
    repeats 0 the counted steps are timed themselves: an upper bound, for sizes of which a machine can barely do one.
    compiled: the repeated blocks are, after the counted steps, as the training loop does it; needs repeats, and takes
    one more step of each kind, which is not timed.
    """
    module = step.module.train()
    optimisers = build_optimisers(module, step.optimiser, step.training["lr"], step.edges)
    trained = [p for p in module.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in trained]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def forward_backward(name: str) -> torch.Tensor:
        with autocast(device, step.training["precision"]):
            value = step.draws[name][1]()
        value.backward()
        return value.detach()

    def finish() -> None:
        nn.utils.clip_grad_norm_(trained, step.optimiser["clip"])
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(average, trained, 1 - step.optimiser["ema"])

    flops, value = 0.0, torch.zeros(())
    seconds: dict[str, list[float]] = {}
    for name, (share, _) in step.draws.items():
        begin = time.perf_counter()
        value, count = counted(lambda name=name: forward_backward(name))
        flops += share * count
        finish()
        _wait(device)
        seconds[name] = [time.perf_counter() - begin]
    if compiled:
        compile_blocks(module)
        for name in step.draws:
            forward_backward(name)
            finish()
    if repeats:
        seconds = {name: [] for name in step.draws}
    for name in [*step.draws] * repeats:
        _wait(device)
        begin = time.perf_counter()
        value = forward_backward(name)
        finish()
        _wait(device)
        seconds[name].append(time.perf_counter() - begin)
    mean = sum(share * statistics.median(seconds[name]) for name, (share, _) in step.draws.items())
    rate = step.training["batch"] / mean
    return Taken(mean, max(1, repeats), rate, flops, float(value), peak_bytes(device))


def matrix_rate(device: torch.device, precision: str, *, side: int | None = None, repeats: int = 5) -> float:
    """FLOP/s of a square matrix product in bf16 or fp32: what this very device reaches at best, cooled as it is.

    side: 8192 on a GPU and 1024 on a CPU if not given. The fastest of `repeats` runs of ten products.
    """
    side = side or (8192 if device.type == "cuda" else 1024)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn((side, side), device=device).to(dtype) for _ in range(2))  # zeros would take less power
    seconds = []
    for _ in range(repeats + 1):  # the first one warms up
        _wait(device)
        begin = time.perf_counter()
        for _ in range(10):
            a @ b
        _wait(device)
        seconds.append(time.perf_counter() - begin)
    return 10 * 2 * side**3 / min(seconds[1:])


def peak_bytes(device: torch.device) -> int:
    """Largest allocation on a GPU, or resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
