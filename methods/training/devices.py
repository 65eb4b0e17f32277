"""Devices, precision and the processes of a training, by Lightning Fabric."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from core.errors import UserError
from methods.training import processes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: at the start one may read a large dataset alone."""
STEADY = timedelta(minutes=15)
"""The same between steps: longer than compiling, or writing a resume state. A lost process costs the others no more."""


VISIBLE = "CUDA_VISIBLE_DEVICES"


def device_of(name: str = "auto") -> torch.device:
    """`auto` is cuda where CUDA works, else cpu; of several processes each has its own card.

    A GPU always has its number, so that whatever is kept for a device is kept once. Raises UserError where this process
    was given a card that CUDA cannot use.
    """
    if name == "auto":
        name = "cuda" if cuda_works() else "cpu"
    device = torch.device(name)
    return torch.device("cuda", processes.local_rank()) if device == torch.device("cuda") else device


def cuda_works() -> bool:
    """Whether torch can use a GPU, found by starting CUDA: a driver that is too old for torch is there all the same.

    Raises UserError if it cannot, though a scheduler, `pipeline.cards` or a person gave this process a card.
    """
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:  # the latter from a CPU build of torch
        cards = os.environ.get(VISIBLE, "")
        if cards in ("", "-1", "NoDevFiles"):  # the last is SLURM's, for no card
            return False
        raise UserError(
            f"this process was given GPU {cards} ({VISIBLE}), which torch {torch.__version__} cannot use"
            f" ({str(error).splitlines()[0]}): update its driver, or install a torch for it (docs/running.md); or set"
            f" {VISIBLE} to nothing to do without."
        ) from error
    return True


def to_device(array: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """On the device. If that is a GPU, by way of pinned memory and without waiting for what it is doing.

    A plain copy would hold its thread until all work that was queued before it is done, as if data were wanting.
    """
    tensor = torch.as_tensor(array)
    if device.type != "cuda" or tensor.device.type == "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _check(precision: str) -> None:
    if precision not in ("bf16", "fp32"):
        raise ValueError(f"precision must be bf16 or fp32, got {precision!r}")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast, or none for `fp32`."""
    _check(precision)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def fabric_of(device: torch.device, precision: str = "fp32", *, partial: bool = False) -> Fabric:
    """Fabric for this process, launched: one device a process, DDP where there are several.

    partial: whether a step may leave parameters out, the same ones in every process; then each step looks for them.
    """
    from lightning_fabric import Fabric  # a second of imports, spared where nothing is trained
    from lightning_fabric.strategies import DDPStrategy

    from methods.training.launched import Launched

    _check(precision)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision of every training
    settings = {"accelerator": device.type, "precision": {"bf16": "bf16-mixed", "fp32": "32-true"}[precision]}
    settings["plugins"] = [Launched()]
    count, local = processes.count(), processes.per_node()
    if count == 1:
        fabric = Fabric(devices=1 if device.type == "cpu" else [device.index], **settings)
    else:
        if device.type == "cuda" and torch.cuda.device_count() < local:
            raise UserError(
                f"{local} processes on this node see {torch.cuda.device_count()} GPUs: start one for each, and let"
                " every process see all GPUs of its node (under SLURM: --gpus-per-node, not --gpus-per-task)."
            )
        # Buffers are constants, the same in every process from the start.
        strategy = DDPStrategy(find_unused_parameters=partial, broadcast_buffers=False, timeout=PATIENCE)
        fabric = Fabric(strategy=strategy, devices=local, num_nodes=count // local, **settings)
    fabric.launch()
    return fabric


def wait_at_most(patience: timedelta) -> None:
    """From now on, processes give up waiting for each other after so long; over NCCL this ends them (SIGABRT)."""
    if torch.distributed.is_initialized():
        torch.distributed.distributed_c10d._set_pg_timeout(patience)


def leave(name: str) -> None:
    """Leave the other processes of the fit `name`, if there are any, once all have come here.

    The first one measures and writes when the others are done, and NCCL wants a group to be destroyed by all together.
    Threads that are left to the interpreter's end may abort it. Raises LostProcessError where another one has died.
    """
    if torch.distributed.is_initialized():
        try:
            torch.distributed.barrier()
        except RuntimeError as error:
            raise processes.LostProcessError(name) from error
        torch.distributed.destroy_process_group()


def share_work(batch: int, device_batch: int | None) -> int:
    """Pieces that each process computes one after another; at most `device_batch` samples in each.

    Raises UserError where the batch does not fall into equal parts.
    """
    count = processes.count()
    if batch % count:
        raise UserError(
            f"a batch of {batch} does not fall into equal parts for {count} processes; start a number that divides it."
        )
    return pieces_of(batch // count, device_batch)


def pieces_of(own: int, device_batch: int | None) -> int:
    """The fewest equal pieces of a process's `own` samples with at most `device_batch` in each."""
    return next(n for n in range(1, own + 1) if own % n == 0 and own // n <= (device_batch or own))
