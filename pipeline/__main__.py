"""For the rules: `python -m pipeline alone LOCK COMMAND …` runs a command while no other holds LOCK."""

from __future__ import annotations

import sys
from pathlib import Path

from core.errors import UserError, run_cli
from pipeline.lock import alone


def main() -> None:
    """Run one command."""
    if len(sys.argv) < 4 or sys.argv[1] != "alone":
        raise UserError("usage: python -m pipeline alone LOCK COMMAND …")
    alone(Path(sys.argv[2]), sys.argv[3:])


if __name__ == "__main__":
    run_cli(main)
