"""Locks that die with their process, so that a kill leaves nothing to clear away."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

_held: list[int] = []  # open files, kept until the process ends


def take(path: Path, *, wait: bool) -> bool:
    """Lock `path` until this process, or what it becomes by exec, ends; False if another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    os.set_inheritable(descriptor, True)  # survives exec; a child that closes its files does not have it
    _held.append(descriptor)
    return True


def hold(path: Path) -> None:
    """One run in one working directory: exit with a sentence if there is another."""
    if not take(path, wait=False):
        sys.exit(f"error: another run is going on in {Path.cwd()}; wait for it to end, or stop it")


def alone(path: Path, command: list[str]) -> None:
    """Become `command` once no other process works on the same: a killed run may have left its jobs alive."""
    if not take(path, wait=False):
        print(f"waiting: a job of an earlier run still works on this ({path})", file=sys.stderr, flush=True)
        take(path, wait=True)
    os.execvp(command[0], command)
