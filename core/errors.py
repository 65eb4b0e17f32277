"""One clear sentence for the person at the keyboard."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend; its message says what to do, in one sentence."""


def run_cli(main: Callable[[], int | None]) -> None:
    """Run a command line; print a `UserError` as one line and exit with status 2."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
