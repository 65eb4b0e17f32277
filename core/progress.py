"""A line now and then that says how far a long job is and when it will end."""

from __future__ import annotations

import sys
import time


class Progress:
    """Prints `label: done/total, what, eta` to standard error, at most every `every` seconds."""

    def __init__(self, label: str, total: int, *, done: int = 0, every: float = 10.0) -> None:
        self.label, self.total, self.every = label, total, every
        self.start, self.first, self.last = time.monotonic(), done, time.monotonic()

    def update(self, done: int, what: str = "") -> None:
        """Report that `done` of `total` are finished; the last one is always printed."""
        now = time.monotonic()
        if done < self.total and now - self.last < self.every:
            return
        self.last = now
        rate = (done - self.first) / max(now - self.start, 1e-9)
        eta = (self.total - done) / rate if rate > 0 else float("inf")
        clock = "--:--" if eta == float("inf") else f"{int(eta // 60):d}:{int(eta % 60):02d}"
        text = f"{self.label}: {done}/{self.total}" + (f", {what}" if what else "") + f", eta {clock}"
        print(text, file=sys.stderr, flush=True)
