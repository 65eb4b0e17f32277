"""For the rules: `python -m pipeline alone [--gpus N] LOCK COMMAND …` runs a command while no other holds LOCK."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.errors import run_cli
from pipeline import cards, lock


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description="Run the command of a rule.")
    alone = parser.add_subparsers(dest="what", required=True).add_parser("alone", help="while no other holds the lock")
    alone.add_argument("lock", type=Path)
    alone.add_argument("--gpus", type=int, help="cards of its own for the command; 0 hides all (default: leave as is)")
    alone.add_argument("command", nargs=argparse.REMAINDER, help="what to run")
    arguments = parser.parse_args()
    if not arguments.command:
        alone.error("a command is missing")
    lock.wait_for(arguments.lock)
    if arguments.gpus is not None:
        cards.choose(arguments.gpus)
    lock.become(arguments.command)


if __name__ == "__main__":
    run_cli(main)
