"""What a job takes over all of its starts, kept in its progress file: one that was killed has taken it as well."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.files import read_json, write_json
from methods.energy import repeatedly

KEY = "spent"
"""In a progress file: the seconds and joules of each start that worked; joules are null where they are not known."""
EVERY = 30.0
"""Seconds between two notes: the most that is forgotten of a start that is killed."""


class Spent:
    """Seconds and joules of this start, which begins now, and of those before it."""

    def __init__(self, progress: Path | None) -> None:
        """progress: the file, with the starts before; None in a process that does not write."""
        self.progress, self.begin = progress, time.monotonic()
        self.starts = read_json(progress)[KEY] if progress else []

    @property
    def seconds(self) -> float:
        """Of this start, so far."""
        return round(time.monotonic() - self.begin, 3)

    @contextlib.contextmanager
    def noted(self, joules: Callable[[], float | None], every: float = EVERY) -> Iterator[None]:
        """While the job works, note what it has taken so far; `joules` says those of this start."""
        before = self.starts

        def note() -> None:
            now = joules()
            self.starts = [*before, [self.seconds, None if now is None else round(now, 1)]]
            with contextlib.suppress(OSError):  # the job itself will say that a disk is full
                write_json(self.progress, {**read_json(self.progress), KEY: self.starts})

        if self.progress is None:
            yield
            return
        try:
            with repeatedly(note, every):
                yield
        finally:
            note()

    def record(self) -> dict[str, float | None]:
        """For a manifest: of all starts together. Joules are None where those of any are not known, or none worked."""
        seconds, joules = zip(*self.starts, strict=True) if self.starts else ((), ())
        known = joules and None not in joules
        return {"seconds": round(sum(seconds, 0.0), 3), "energy_joules": round(sum(joules), 1) if known else None}
