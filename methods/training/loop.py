"""The one training loop.

Every random draw of step s comes from a generator seeded by (stage, seed, s); a run that was killed and
resumed therefore takes the very same steps as one that was not. The loop writes `fit.jsonl` (one line every
`log_every` steps, losses averaged over the interval) and, at the end, `costs.json` (parameters and FLOPs);
the module is left holding the moving average of its weights. Resume state lives in `out/resume/` and is
removed on success; whoever calls sees to it that the folder belongs to the same code, data and parameters
(`methods.run` does).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.files import write_json
from core.progress import Progress
from core.randomness import seed_of
from methods.training import checkpoint
from methods.training.flops import counted, counted_steps, training_record
from methods.training.optimiser import build_optimisers, learning_rate_factor

Loss = Callable[[torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]
"""Draws a batch from the generator; returns the loss and named parts to log."""


COSTS = "costs.json"
"""What the training cost, merged into the stage's manifest."""


class DivergedError(RuntimeError):
    """The loss became NaN or infinite."""


def device_of(name: str = "auto") -> torch.device:
    """`auto` is cuda where there is one, else cpu."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast, or none for `fp32`."""
    if precision not in ("bf16", "fp32"):
        raise ValueError(f"precision must be bf16 or fp32, got {precision!r}")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def seeded(build: Callable[[], nn.Module], *names: str | int) -> nn.Module:
    """Build a module whose initial weights depend on `names` only, leaving the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of("initialise", *names))
        return build()


def train(
    module: nn.Module,
    loss: Loss,
    *,
    name: str,
    seed: int,
    out: Path,
    optimiser: Mapping[str, Any],
    training: Mapping[str, Any],
    edges: tuple[str, ...] = (),
    save_every: float = 60.0,
) -> nn.Module:
    """Train `module` in place and return it holding its moving average.

    training: steps, lr, precision. optimiser: see `build_optimisers`, plus warmup, floor, clip, ema.
    Raises DivergedError on a non-finite loss.
    """
    steps, resume = training["steps"], out / "resume"
    device = next(module.parameters()).device
    optimisers = build_optimisers(module, optimiser, training["lr"], edges)
    peaks = [[group["lr"] for group in o.param_groups] for o in optimisers]
    trained = {k: v for k, v in module.named_parameters() if v.requires_grad}
    average = {k: v.detach().clone() for k, v in trained.items()}
    out.mkdir(parents=True, exist_ok=True)
    log_path, first = out / "fit.jsonl", 0
    header = checkpoint.read_header(resume)
    flops: list[tuple[int, int]] = []  # of each counted step: forward and backward, optimiser
    chosen = counted_steps(steps)
    if header:
        checkpoint.restore_state(resume, module, average, optimisers)
        first, flops = header["step"], header["flops"]
        with log_path.open("r+b") as file:
            file.truncate(header["log_bytes"])
    else:
        log_path.write_bytes(b"")
    progress = Progress(f"fit {name}", steps, done=first)
    sums: dict[str, float] = {}
    log_every = max(1, steps // 200)
    saved = time.monotonic()
    module.train()
    # The global generator is used by dropout alone; it is forked, and seeded at each step.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step in range(first, steps):
            step_seed = seed_of("step", name, seed, step)
            torch.manual_seed(step_seed)
            factor = learning_rate_factor(step, steps, optimiser["warmup"], optimiser["floor"])
            for o, rates in zip(optimisers, peaks, strict=True):
                for group, rate in zip(o.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                o.zero_grad(set_to_none=True)

            def forward_backward(step_seed: int = step_seed) -> tuple[Tensor, Mapping[str, Tensor]]:
                with autocast(device, training["precision"]):
                    value, parts = loss(torch.Generator().manual_seed(step_seed))
                value.backward()
                return value, parts

            def update() -> None:
                for o in optimisers:
                    o.step()

            if step in chosen:
                (value, parts), spent = counted(forward_backward)
            else:
                value, parts = forward_backward()
            norm = nn.utils.clip_grad_norm_(trained.values(), optimiser["clip"])
            if step in chosen:
                flops.append((spent, counted(update)[1]))
            else:
                update()
            # Early averages would remember the initial weights; the decay grows to its value instead.
            decay = min(optimiser["ema"], (1 + step) / (10 + step))
            with torch.no_grad():
                for k, v in trained.items():
                    average[k].lerp_(v.detach(), 1 - decay)
            for k, v in {"loss": value, "grad_norm": norm, **parts}.items():
                sums[k] = sums.get(k, 0.0) + float(v.detach())
            if not math.isfinite(sums["loss"]):
                raise DivergedError(
                    f"the loss of {name} became {sums['loss']} at step {step}; lower its learning rate."
                )
            if (step + 1) % log_every == 0 or step + 1 == steps:
                count = (step % log_every) + 1
                means = {k: round(v / count, 6) for k, v in sums.items()}
                line = json.dumps({"step": step + 1, **means, "lr": training["lr"] * factor})
                with log_path.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
                progress.update(step + 1, f"loss {means['loss']:.4f}")
                sums = {}
                if time.monotonic() - saved > save_every and step + 1 < steps:
                    checkpoint.save_state(
                        resume,
                        step=step + 1,
                        model=module.state_dict(),
                        average=average,
                        optimisers=optimisers,
                        log_bytes=log_path.stat().st_size,
                        flops=flops,
                    )
                    saved = time.monotonic()
    with torch.no_grad():
        for k, v in trained.items():
            v.copy_(average[k])
    module.eval()
    sizes = {"parameters": sum(v.numel() for v in trained.values())}
    write_json(out / COSTS, sizes | training_record(flops, steps))
    return module
