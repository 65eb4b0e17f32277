"""How many processes train together, and which one this is: read from what torchrun or SLURM has set. No torch.

One process is the rule. Several share the batch of every step (`methods.training.draws`); the first one writes.
"""

from __future__ import annotations

import os

from core.errors import UserError


class DivergedError(RuntimeError):
    """The loss or its gradient became NaN or infinite; every process of a training sees it at the same step."""


class LostProcessError(UserError):
    """This process of a training was told to stop, or another one is gone; what was saved is kept."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"process {rank() + 1} of {count()} was stopped, or lost another one, while fitting {name}; run the same"
            " command again, with any number of processes, and it goes on from what was saved."
        )


def _number(name: str) -> int | None:
    return int(os.environ[name]) if os.environ.get(name, "").isdigit() else None


def _slurm() -> bool:
    """Whether srun started this process together with others (a batch script alone is one process)."""
    return "TORCHELASTIC_RUN_ID" not in os.environ and (_number("SLURM_STEP_NUM_TASKS") or 1) > 1


def count() -> int:
    """Processes that train together, on all nodes."""
    return _number("SLURM_STEP_NUM_TASKS" if _slurm() else "WORLD_SIZE") or 1


def rank() -> int:
    """Number of this process, from 0."""
    return (_number("SLURM_PROCID" if _slurm() else "RANK") or 0) if count() > 1 else 0


def local_rank() -> int:
    """Number of this process on its node, from 0: which of the node's devices is its own."""
    told = _number("SLURM_LOCALID" if _slurm() else "LOCAL_RANK")
    return rank() % per_node() if told is None or count() == 1 else told


def per_node() -> int:
    """Processes on each node."""
    if _slurm():
        return count() // (_number("SLURM_STEP_NUM_NODES") or 1)
    return _number("LOCAL_WORLD_SIZE") or count()


def first() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0
