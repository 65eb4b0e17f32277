"""What a training writes about itself: `fit.jsonl`, TensorBoard's events, `costs.json` and `speed.json`.

Only the first of several processes writes. `fit.jsonl` and `costs.json` follow from code, data and seed; times stand in
`speed.json` and in the events.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from core.files import write_json
from core.progress import Progress
from methods.training import processes

COSTS = "costs.json"
"""What the training cost, merged into the stage's manifest."""
SPEED = "speed.json"
"""How fast it ran, merged into the stage's manifest."""
MOST_WAITING = 0.05
"""Share of a GPU's time that may go by while it waits for batches before it is said."""


def complain_of_waiting(name: str, share: float, workers: int) -> None:
    """Say what to do if a GPU waited for data for more than MOST_WAITING of the time."""
    if share > MOST_WAITING and processes.first():
        print(
            f"fit {name}: the GPU waited for data for {share:.0%} of the time, where {MOST_WAITING:.0%} is the aim:"
            f" raise hardware.workers ({workers}), or hardware.memory_gb, so that more of the data lies on the device",
            file=sys.stderr,
        )


class Log:
    """The log of a training of `steps` steps that starts, or goes on, at step `first`.

    size: bytes of `fit.jsonl` that belong to the steps before; what stands behind them is dropped.
    """

    def __init__(self, name: str, out: Path, *, steps: int, first: int, size: int) -> None:
        self.out, self.path, self.first = out, out / "fit.jsonl", first
        self.begin, self.writer = time.monotonic(), None
        if not processes.first():
            return
        out.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(size)
        self.progress = Progress(f"fit {name}", steps, done=first)
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=first + 1)

    @property
    def size(self) -> int:
        """Bytes of `fit.jsonl` so far."""
        return self.path.stat().st_size

    def line(self, step: int, means: Mapping[str, float], lr: float, waited: float) -> None:
        """Note the means of the steps since the last line. waited: seconds that all steps so far waited for data."""
        if self.writer is None:
            return
        rounded = {k: round(v, 6) for k, v in means.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **rounded, "lr": lr}) + "\n")
        for key, value in {**means, "lr": lr, "data_wait_share": waited / self.seconds}.items():
            self.writer.add_scalar(key, value, step)
        self.progress.update(step, f"loss {rounded['loss']:.4f}")

    @property
    def seconds(self) -> float:
        """Wall time of the steps since this start."""
        return max(time.monotonic() - self.begin, 1e-9)

    def close(self, costs: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """Write the costs of all steps, and the speed of those since this start."""
        if self.writer is None:
            return
        self.writer.close()
        write_json(self.out / COSTS, dict(costs))
        write_json(self.out / SPEED, {"processes": processes.count(), **speed})
