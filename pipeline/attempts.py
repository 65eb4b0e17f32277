"""A job that is killed each time it is tried: the last attempt leaves a record, so that the others go on without it.

The kernel's out-of-memory killer and a segmentation fault leave no exception. Memory that Python or a GPU did not have,
and a GPU that failed, are told by the exit statuses of `core.errors`; the death of one of several processes is told by
that of their launcher. When the last attempt of a command dies so, the same command is run once more with `--killed
REASON`, by which it records a failure instead of working. What a person or a scheduler stops (SIGINT, SIGTERM, SIGHUP)
is no failure, and neither is a command that ends by itself.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from core.errors import UserError

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WHY = {signal.SIGKILL: "; out of memory?", signal.SIGABRT: "; a fault of the GPU?"}


def run_last(command: list[str], attempts: int) -> int:
    """Run a command that is not tried again if it fails; returns its exit status, as a shell gives it.

    attempts: how many there were, with this one. Locks that this process holds are held by the command as well, in
    case that this process alone is killed.
    """
    stopped: list[int] = []
    try:
        child = subprocess.Popen(command, close_fds=False)  # locks are the only files that are inherited
    except FileNotFoundError as error:
        raise UserError(f"the command {command[0]!r} is not there") from error

    def pass_on(number: int, _: object) -> None:
        stopped.append(number)
        if number != signal.SIGINT:  # the terminal has sent that one to both
            child.send_signal(number)

    for number in STOPS:
        signal.signal(number, pass_on)
    returned = child.wait()
    killed = returned - 128 if returned > 128 else -returned  # a launcher of several processes hands it on
    if killed not in set(signal.Signals):
        return returned
    status = 128 + killed
    if stopped or killed in STOPS:
        return status
    name = signal.Signals(killed)
    reason = f"killed by {name.name} at the last of {attempts} attempts (exit status {status}{WHY.get(name, '')})"
    print(
        f"{reason}; this is recorded, and what does not need it goes on; to try again, delete the manifest.json that"
        " says so", file=sys.stderr, flush=True,
    )  # fmt: skip
    return subprocess.call([*command, "--killed", reason], close_fds=False)
