"""One clear sentence for the person at the keyboard."""

from __future__ import annotations

import sys
from collections.abc import Callable

OUT_OF_MEMORY = 137
"""Exit status of a process that the kernel killed for its memory, as a shell gives it; ours where Python had none."""


class UserError(Exception):
    """Something the user can mend; its message says what to do, in one sentence."""


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line; print a `UserError` as one line and exit with status 2, out of memory with 137."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"error: there is not enough memory ({error or 'no more is said'})", file=sys.stderr)
        sys.exit(OUT_OF_MEMORY)
