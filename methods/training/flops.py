"""Floating-point operations, counted as they happen: those of matrix products, convolutions and attention.

A multiplication and an addition are two operations. What `torch.utils.flop_counter` does not know (norms, activations,
softmax, other elementwise work) counts nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")

COUNTED_STEPS = 16
"""Of a training, spread evenly over it: steps differ in cost (masks, banks), and counting slows a step down."""


def counted(call: Callable[[], T]) -> tuple[T, int]:
    """What `call` returns and how many operations it took, backward passes that it runs included."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()


def counted_steps(steps: int) -> frozenset[int]:
    """Which of a training's steps are counted: COUNTED_STEPS or all, evenly spread from the first one on."""
    n = min(steps, COUNTED_STEPS)
    return frozenset(i * steps // n for i in range(n))


def training_record(counts: Sequence[tuple[int, int]], steps: int, drawing: int = 0) -> dict[str, Any]:
    """What a manifest says of a training of `steps` steps, some of them counted: (forward and backward, optimiser).

    drawing: of the networks that only run, while the batch of a step is drawn. `step_flops`: that, and the mean of
    forward and backward over the counted steps, with its standard error and their number.
    `training_flops`: of all steps. `optimiser_step_flops` stands apart, since other work than a network's is seldom
    counted; with Muon, whose orthogonalisation is matrix products, it is no small part of a small model's step.
    """
    model, optimiser = zip(*counts, strict=True)
    mean = statistics.fmean(model) + drawing
    error = statistics.stdev(model) / len(model) ** 0.5 if len(model) > 1 else 0.0
    record = {"step_flops": round(mean), "step_flops_standard_error": round(error), "steps_counted": len(model)}
    return record | {
        "optimiser_step_flops": round(statistics.fmean(optimiser)),
        "training_flops": round(mean * steps),
    }
