"""Energy that the GPUs of a run took: from the card's own counter (NVML), or by nvidia-smi where it cannot be read.

Whole cards, idle share included, so that what else runs on them counts as well. No torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

EVERY = 1.0
"""Seconds between two readings of the power, where there is no counter."""


class Meter:
    """Joules since the meter was started; None where no way to read them was found, or none has worked yet."""

    def __init__(self, read: Callable[[], float | None]) -> None:
        """read: joules since some moment; None where they are not known."""
        self._read = read
        self._begin = read() or 0.0

    @property
    def joules(self) -> float | None:
        """So far."""
        now = self._read()
        return None if now is None else now - self._begin


@contextlib.contextmanager
def metered(cards: int) -> Iterator[Meter]:
    """A meter of the first `cards` GPUs that this process may use."""
    names = _visible()[:cards]
    counter = _counter(names) if names else None
    with contextlib.ExitStack() as stack:
        if names and counter is None:
            command = shutil.which("nvidia-smi")
            counter = stack.enter_context(integrated(lambda: _power(command, names))) if command else None
        yield Meter(counter or (lambda: None))


@contextlib.contextmanager
def integrated(power: Callable[[], float], every: float = EVERY) -> Iterator[Callable[[], float | None]]:
    """Joules by the trapezoid rule over readings of the power (watts), taken in a thread every `every` seconds.

    A reading that fails (OSError, ValueError, subprocess.SubprocessError) is left out: None until one did not.
    """
    state, lock = {"joules": 0.0}, threading.Lock()

    def reading() -> None:
        try:
            watts = power()
        except (OSError, ValueError, subprocess.SubprocessError):
            return
        with lock:
            now = time.monotonic()
            if "at" in state:
                state["joules"] += (now - state["at"]) * (watts + state["watts"]) / 2
            state["at"], state["watts"] = now, watts

    def joules() -> float | None:
        reading()
        return state["joules"] if "at" in state else None

    reading()
    with repeatedly(reading, every):
        yield joules


@contextlib.contextmanager
def repeatedly(action: Callable[[], None], every: float) -> Iterator[None]:
    """Do it in a thread every `every` seconds, the first time after as many."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            action()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _visible() -> list[str]:
    """Index or UUID of each GPU that CUDA may use, as nvidia-smi knows it; none where there is no driver."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    command = shutil.which("nvidia-smi")
    try:
        listed = _run(command, "--query-gpu=index") if command else ""
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.split()


def _counter(names: list[str]) -> Callable[[], float] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(n)) if n.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(n)
            for n in names
        ]

        def joules() -> float:
            return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000  # millijoules

        joules()
    except Exception:  # no package, no driver, or a card without a counter: NVML raises classes of its own
        return None
    return joules


def _power(command: str, names: list[str]) -> float:
    """Watts of all of these cards."""
    return sum(map(float, _run(command, "--query-gpu=power.draw", f"--id={','.join(names)}").split()))


def _run(command: str, *arguments: str) -> str:
    done = subprocess.run(
        [command, *arguments, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout
