"""Locks that die with their process, so that a kill leaves nothing to clear away."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from core.errors import UserError

_held: list[int] = []  # open files, kept until the process ends


def take(path: Path, *, wait: bool) -> bool:
    """Lock `path` until this process, or what it becomes by exec, ends; False if another holds it."""
    descriptor = _open_locked(path, wait=wait)
    if descriptor is not None:
        _held.append(descriptor)
    return descriptor is not None


def take_some(paths: list[Path], count: int) -> list[Path]:
    """Lock `count` of `paths` as `take` does; where fewer are free, none is kept and the list is empty."""
    taken: dict[Path, int] = {}
    for path in paths:
        if len(taken) < count and (descriptor := _open_locked(path, wait=False)) is not None:
            taken[path] = descriptor
    if len(taken) < count:
        for descriptor in taken.values():
            os.close(descriptor)
        return []
    _held.extend(taken.values())
    return list(taken)


def _open_locked(path: Path, *, wait: bool) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except PermissionError:
        if not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY)  # another user's: on a local disk, who may read it may lock it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.set_inheritable(descriptor, True)  # survives exec; a child that closes its files does not have it
    return descriptor


def hold(path: Path) -> None:
    """One run in one working directory: exit with a sentence if there is another."""
    if not take(path, wait=False):
        sys.exit(f"error: another run is going on in {Path.cwd()}; wait for it to end, or stop it")


def wait_for(path: Path) -> None:
    """Return once no other process works on the same: a killed run may have left its jobs alive."""
    if not take(path, wait=False):
        print(f"waiting: a job of an earlier run still works on this ({path})", file=sys.stderr, flush=True)
        take(path, wait=True)


def become(command: list[str]) -> None:
    """Replace this process, locks and all, by `command`."""
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        raise UserError(f"the command {command[0]!r} is not there") from error
