"""What test_processes.py runs under torchrun: of two processes in the middle of a training, one does not answer."""

from __future__ import annotations

import time
from datetime import timedelta

import torch

from core.errors import run_cli
from methods.training import devices, loop, processes


def main() -> None:
    """The first process says how long it has waited for the second one."""
    devices.STEADY = timedelta(seconds=2)
    fabric = devices.fabric_of(torch.device("cpu"))
    with loop._peers("vae"):
        fabric.all_reduce(torch.ones(1))
        if not processes.first():
            time.sleep(60)
        start = time.monotonic()
        try:
            fabric.all_reduce(torch.ones(1))
        finally:
            print(f"gave up after {time.monotonic() - start:.1f} seconds", flush=True)


if __name__ == "__main__":
    run_cli(main)
