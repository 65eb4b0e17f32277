"""Several processes of one command on this machine, under torchrun."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Sequence

from core.errors import UserError

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What a person or a scheduler sends, and torchrun to the processes that a dead one left behind."""


def start_processes(count: int, command: Sequence[str]) -> None:
    """Run `python -m COMMAND` in `count` processes that see each other; returns when all have ended well.

    Where one was killed, exits with the status that a shell gives for it, as if this process had been: whoever started
    it can tell a death (`pipeline.attempts`) from an end. Raises UserError where one ended early by itself.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(["--standalone", f"--nproc-per-node={count}", "-m", *command])
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
    except ChildFailedError as error:
        sentence = (
            f"the training of {count} processes ended early, for the first error above; run the same command again,"
            " with any number of processes, and it goes on from what was saved."
        )
        if status := death_among(failure.exitcode for failure in error.failures.values()):
            print(f"error: {sentence}", file=sys.stderr)
            sys.exit(status)
        raise UserError(sentence) from error


def death_among(codes: Iterable[int]) -> int:
    """The first of the exit codes that is of a killed process, as a shell gives it; 0 if there is none.

    codes: negative for a signal, as Python gives them. The others end by themselves or are told to, once one is gone.
    """
    statuses = (128 - code if code < 0 else code for code in codes)
    return next((status for status in statuses if status > 128 and status - 128 not in STOPS), 0)
