"""One clear sentence for the person at the keyboard."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable

OUT_OF_MEMORY = 137
"""Exit status of a process that the kernel killed for its memory, as a shell gives it; ours where Python had none."""


class UserError(Exception):
    """Something the user can mend; its message says what to do, in one sentence."""


def known(kind: str, name: str, names: Iterable[str]) -> UserError:
    """The error for an unknown name: what is known and, if one is close, what was probably meant."""
    names = list(names)
    close = difflib.get_close_matches(str(name), names, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(f"there is no {kind} {name!r} (known: {', '.join(names) or 'none'}){meant}")


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
