"""The one training loop, for one process or several.

Every random draw of step s comes from a generator seeded by (stage, seed, s), for the whole batch; each process, and
each piece of an accumulated batch, computes its share of the rows. A run that was killed and resumed therefore takes
the very same steps as one that was not, with any number of processes. (With dropout, the masks depend on that number.)
The loop writes what `methods.training.log` says; the module is left holding the moving average of its weights. Resume
state lives in `out/resume/` and is removed on success; whoever calls sees to it that the folder belongs to the same
code, data and parameters (`methods.run` does). Of several processes only the first one writes.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core.errors import UserError
from core.randomness import seed_of
from methods.training import checkpoint, devices, processes
from methods.training.devices import autocast, device_of, fabric_of, share_work
from methods.training.draws import Share
from methods.training.flops import COUNTED_STEPS, counted, counted_steps, training_record
from methods.training.log import Log, complain_of_waiting
from methods.training.optimiser import build_optimisers, learning_rate_factor
from methods.training.prefetch import Batches
from methods.training.processes import DivergedError, LostProcessError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["COUNTED_STEPS", "DivergedError", "autocast", "device_of", "seeded", "train"]

Batch = TypeVar("Batch")
Draw = Callable[[torch.Generator, Share], Batch]
"""Draws a batch from the generator and returns the share's rows of it; called ahead of the step, maybe in a thread."""
Loss = Callable[[Batch, torch.Generator, Share], tuple[Tensor, Mapping[str, Tensor]]]
"""The mean over the share's rows, and named parts to log; further draws come from the same generator."""

LOG_EVERY = 100
"""Steps between two lines of the log, at most."""


def seeded(build: Callable[[], nn.Module], *names: str | int) -> nn.Module:
    """Build a module whose initial weights depend on `names` only, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):  # modules are built on the CPU
        torch.manual_seed(seed_of("initialise", *names))
        return build()


class _Owner(nn.Module):
    """Owns the parameters for DDP, which hooks their gradients, and runs what it is handed."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


class _ResumeState:
    """The state in `folder`, kept every `every` seconds, or less often where that takes longer than one."""

    def __init__(self, folder: Path, every: float) -> None:
        self.folder, self.every = folder, every
        self.saved, self.took = time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Whether this process is the one that writes, and has waited for long enough."""
        return processes.first() and time.monotonic() - self.saved > self.every * max(1.0, self.took)

    def save(self, **state: Any) -> None:
        """See `checkpoint.save_state`."""
        begin = time.monotonic()
        checkpoint.save_state(self.folder, **state)
        self.saved = time.monotonic()
        self.took = self.saved - begin


def begin_step(optimisers: Sequence[Optimizer], peaks: Sequence[Sequence[float]], factor: float) -> None:
    """Give each group of parameters its peak rate times `factor`, and forget the gradients of the step before."""
    for optimiser, rates in zip(optimisers, peaks, strict=True):
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        optimiser.zero_grad(set_to_none=True)


@torch.no_grad()
def follow(average: Sequence[Tensor], weights: Sequence[Tensor], step: int, ema: float) -> None:
    """Move the average, in place, towards the weights after `step` (from 0).

    Early averages would remember the initial weights; the decay grows to `ema` instead.
    """
    torch._foreach_lerp_(average, weights, 1 - min(ema, (1 + step) / (10 + step)))


def train(
    module: nn.Module,
    draw: Draw,
    loss: Loss,
    *,
    name: str,
    stream: str | None = None,
    seed: int,
    out: Path,
    optimiser: Mapping[str, Any],
    training: Mapping[str, Any],
    hardware: Mapping[str, Any] | None = None,
    edges: tuple[str, ...] = (),
    drawing_flops: int = 0,
    partial: bool = False,
    save_every: float = 60.0,
) -> nn.Module:
    """Train `module` in place and return it holding its moving average.

    name: in logs. stream: of the random draws, the name if not given; trainings of one stream draw the same batches.
    training: steps, batch (of all processes together), lr, precision. optimiser: see `build_optimisers`, plus warmup,
    floor, clip, ema. hardware, which changes no draw: device_batch (the most samples that a device takes at once),
    compile (the repeated blocks), workers (threads that draw ahead). drawing_flops: of the networks that `draw` runs
    for a whole batch, where it runs any; the loop counts the loss, its gradients and the update. partial: whether a
    step may leave parameters without gradients. save_every: seconds between two resume states; more if saving takes
    longer than one. Raises DivergedError on a non-finite loss or gradient, LostProcessError where another process died.
    """
    hardware, stream = hardware or {}, stream or name
    steps, resume = training["steps"], out / "resume"
    device = next(module.parameters()).device
    fabric = fabric_of(device, training["precision"], partial=partial)
    pieces = share_work(training["batch"], hardware.get("device_batch"))
    optimisers = build_optimisers(module, optimiser, training["lr"], edges)
    peaks = [[group["lr"] for group in o.param_groups] for o in optimisers]
    trained = {k: v for k, v in module.named_parameters() if v.requires_grad}
    weights, average = list(trained.values()), {k: v.detach().clone() for k, v in trained.items()}
    first, size = 0, 0
    flops: list[tuple[int, int]] = []  # of each counted step: forward and backward, optimiser
    header = _agreed_header(fabric, resume)
    # Compiled products are not seen: then the first steps are counted, before compilation.
    chosen = frozenset(range(COUNTED_STEPS)) if hardware.get("compile") else counted_steps(steps)
    if header:
        checkpoint.restore_state(resume, module, average, optimisers)
        first, flops, size = header["step"], header["flops"], header["log_bytes"]
    owner = fabric.setup_module(_Owner(module))
    log = Log(name, out, steps=steps, first=first, size=size)
    log_every = max(1, min(steps // 200, LOG_EVERY))
    watched = _watched(device)
    state = _ResumeState(resume, save_every)

    def share_of(i: int) -> Share:
        """Of the i-th piece of the training."""
        step, piece = divmod(i, pieces)
        return Share(processes.rank() * pieces + piece, processes.count() * pieces, step)

    def make(i: int) -> tuple[Any, torch.Generator]:
        generator = torch.Generator().manual_seed(seed_of("step", stream, seed, i // pieces))
        return draw(generator, share_of(i)), generator  # in full precision: rotations would displace points

    def forward_backward(step: int, drawn: list[tuple[Any, torch.Generator]]) -> dict[str, Tensor]:
        """One step's gradients, and the means over this process's pieces of what the loss returns."""
        sums: dict[str, Tensor] = {}
        for i, (batch, generator) in enumerate(drawn):
            share = share_of(step * pieces + i)
            # The global generator is used by dropout alone.
            torch.manual_seed(seed_of("step", stream, seed, step, *([share.index] if share.index else [])))
            with fabric.no_backward_sync(owner, enabled=i + 1 < pieces):
                value, parts = owner(lambda b=batch, g=generator, s=share: loss(b, g, s))
                fabric.backward(value if pieces == 1 else value / pieces)
            for k, v in {"loss": value, **parts}.items():
                sums[k] = sums.get(k, 0) + v.detach().double() / pieces
        return sums

    def update() -> None:
        for o in optimisers:
            o.step()

    module.train()
    sums: dict[str, Tensor] = {}
    batches = Batches(make, first * pieces, steps * pieces, hardware.get("workers", 0), device)
    # The global generator is forked, and seeded at each piece.
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        contextlib.closing(iter(batches)) as upcoming,
        _peers(name),
    ):
        for step in range(first, steps):
            if hardware.get("compile") and step == max(first, COUNTED_STEPS):
                compile_blocks(module)
            factor = learning_rate_factor(step, steps, optimiser["warmup"], optimiser["floor"])
            begin_step(optimisers, peaks, factor)
            drawn = [next(upcoming) for _ in range(pieces)]
            if step in chosen:
                parts, spent = counted(lambda step=step, drawn=drawn: forward_backward(step, drawn))
            else:
                parts = forward_backward(step, drawn)
            norm = nn.utils.clip_grad_norm_(weights, optimiser["clip"])
            parts = {"loss": parts["loss"], "grad_norm": norm.double(), **parts}
            if step in chosen:
                flops.append((spent * processes.count(), counted(update)[1]))
            else:
                update()
            follow(list(average.values()), weights, step, optimiser["ema"])
            for k, v in parts.items():
                sums[k] = sums.get(k, 0) + v
            due = (step + 1) % log_every == 0 or step + 1 == steps
            if not due and not watched:
                continue
            count = (step % log_every) + 1  # steps that `sums` are of
            if due:
                sums = {k: fabric.all_reduce(v, reduce_op="mean") for k, v in sums.items()}
            for what, part in (("loss", "loss"), ("gradient", "grad_norm")):  # a finite loss may have one that is not
                if not math.isfinite(float(sums[part])):
                    when = f"at step {step}" if watched or count == 1 else f"at or before step {step}"
                    raise DivergedError(
                        f"the {what} of {name} became {float(sums[part])} {when}; lower its learning rate."
                    )
            if due:
                log.line(
                    step + 1, {k: float(v) / count for k, v in sums.items()}, training["lr"] * factor, batches.waited
                )
                sums = {}
                if step + 1 < steps and state.is_due():
                    state.save(
                        step=step + 1,
                        model=module.state_dict(),
                        average=average,
                        optimisers=optimisers,
                        log_bytes=log.size,
                        flops=flops,
                    )
    with torch.no_grad():
        for k, v in trained.items():
            v.copy_(average[k])
    module.eval()
    costs = {"parameters": sum(v.numel() for v in weights), **training_record(flops, steps, drawing_flops)}
    speed = _speed(steps - first, training["batch"], log.seconds, batches.waited)
    if device.type == "cuda":
        complain_of_waiting(name, speed["data_wait_share"], hardware.get("workers", 0))
    log.close(costs, {"pieces": pieces, **speed})
    return module


def _watched(device: torch.device) -> bool:
    """Whether every loss is looked at: elsewhere that would stall the device, so those of the steps that are logged."""
    return device.type == "cpu" and processes.count() == 1


def _agreed_header(fabric: Fabric, resume: Path) -> dict[str, Any] | None:
    """The header of the resume state, if there is one. Raises UserError where processes find different ones."""
    header = checkpoint.read_header(resume)
    if fabric.broadcast(header) != header:
        raise UserError(
            f"process {processes.rank() + 1} does not find {resume} as the first one left it: put runs on a disk that"
            " all nodes share."
        )
    return header


def _speed(steps: int, batch: int, seconds: float, waited: float) -> dict[str, float]:
    """What `speed.json` says of the steps that this start took."""
    return {
        "step_seconds": round(seconds / max(1, steps), 6),
        "samples_per_second": round(batch * steps / seconds, 3),
        "data_wait_share": round(waited / seconds, 4),
    }


def compile_blocks(module: nn.Module) -> None:
    """Compile the repeated blocks of `module` in place: members of a ModuleList share code, and compile once."""
    # Blocks are compiled inside of DDP's forward: there is no graph to be cut where its buckets end.
    torch._dynamo.config.optimize_ddp = False
    for stack in module.modules():
        if isinstance(stack, nn.ModuleList):
            for block in stack:
                block.compile(dynamic=True)  # masking changes the number of tokens at every step


@contextlib.contextmanager
def _peers(name: str) -> Iterator[None]:
    """Turn the loss of another process, and what its launcher then does to this one, into one sentence.

    A process that waits for the device runs no signal handler, and srun alone ends nobody: then it is the patience of
    the steps that ends it.
    """

    def stop(*_: object) -> None:
        raise LostProcessError(name)

    if processes.count() > 1:
        signal.signal(signal.SIGTERM, stop)
        devices.wait_at_most(devices.STEADY)
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()
        if processes.count() > 1 and lost:
            raise LostProcessError(name) from error
        raise
    finally:
        if processes.count() > 1:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            devices.wait_at_most(devices.PATIENCE)
