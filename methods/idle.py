"""A batch falls into equal parts: where the number of processes does not divide it, some are left idle. No torch.

A run takes whatever number of devices was obtained, and a step is the same for any number that divides the batch. So as
many processes of each node as do train, and the others end at once, before any has looked for its peers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from methods.training import processes


def batches_of(params: Mapping[str, Any]) -> list[int]:
    """The batches of the trainings in the params of a stage."""
    sections = [
        section["training"] for section in params.values() if isinstance(section, Mapping) and "training" in section
    ]
    return [training["batch"] for training in sections]


def working(per_node: int, batches: Iterable[int], nodes: int = 1) -> int:
    """The most processes of each node, up to `per_node`, of which all nodes together divide every batch; 0 if none."""
    batches = list(batches)
    return next((n for n in range(per_node, 0, -1) if not any(batch % (n * nodes) for batch in batches)), 0)


def told(started: int, batches: Iterable[int], nodes: int = 1) -> int:
    """`working`, with a sentence if some of the processes `started` on each node are left idle."""
    batches = list(batches)
    used = working(started, batches, nodes)
    if 0 < used < started:
        print(
            f"a batch of {min(batch for batch in batches if batch % (started * nodes))} does not fall into equal parts"
            f" for {started * nodes} processes: {used * nodes} train and {(started - used) * nodes} stay idle",
            file=sys.stderr,
        )
    return used or started  # none: left to `devices.share_work`, which refuses the batch with a sentence


def take_part(batches: Iterable[int]) -> bool:
    """Whether this process trains. Of those that do, the environment says how many there are, and which one this is.

    A stage without a batch has nothing to share: the first process of all fits it alone.
    """
    batches, count, started = list(batches), processes.count(), processes.per_node()
    if count == 1:
        return True
    if not batches:
        first = processes.first()
        _count_anew(1, 0, 1)
        return first
    nodes, (node, local) = count // started, divmod(processes.rank(), started)
    used = told(started, batches, nodes) if processes.first() else working(started, batches, nodes) or started
    if local >= used:
        return False
    if used < started:
        _count_anew(used * nodes, node * used + local, used)
    return True


def _count_anew(total: int, rank: int, per_node: int) -> None:
    """Set what `processes` reads, as torchrun or srun would have."""
    if "SLURM_STEP_NUM_TASKS" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ:
        names = {"SLURM_STEP_NUM_TASKS": str(total), "SLURM_NTASKS": str(total), "SLURM_NTASKS_PER_NODE": str(per_node)}
        os.environ |= names | {"SLURM_PROCID": str(rank)}
    else:
        os.environ |= {"WORLD_SIZE": str(total), "LOCAL_WORLD_SIZE": str(per_node), "RANK": str(rank)}
