"""Floating-point operations, counted as they happen: those of matrix products, convolutions and attention.

A multiplication and an addition are two operations. What `torch.utils.flop_counter` does not know (norms, activations,
softmax, the optimiser's step) counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")


def counted(call: Callable[[], T]) -> tuple[T, int]:
    """What `call` returns and how many operations it took, backward passes that it runs included."""
    with FlopCounterMode(display=False) as counter:
        result = call()
    return result, counter.get_total_flops()
