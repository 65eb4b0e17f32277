"""What a person reads when a run has ended."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.artefacts import Artefact

FINE = ("ok", "not run")


def bad_rows(table: Path) -> list[str]:
    """`name: status` of the rows of a table that say of something that it failed or is missing."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row.get("status", "ok").startswith(FINE)]
    names = [row.get("claim") or f"{row['method']}/{row['variant']}" for row in rows]
    return [f"{name}: {row['status']}" for name, row in zip(names, rows, strict=True)]


def succeeded(artefacts: Sequence[Artefact], description: Callable[[str], str]) -> None:
    """Print the tables that are there; exit with status 1 if a method stands in one of them as failed.

    description: what an artefact of this run is of, by its name; the first line of its page has it.
    """
    for table, text in _of_this_run(artefacts, description):
        print(f"\n{text}\nwritten to {table}", file=sys.stderr)
    status(artefacts, description)


def status(artefacts: Sequence[Artefact], description: Callable[[str], str]) -> None:
    """Exit with status 1 if a method stands in one of the tables as failed.

    By itself for a run in which nothing was to be done: Snakemake calls no hook then and ends with status 0.
    """
    lines = (line for table, _ in _of_this_run(artefacts, description) for line in bad_rows(table))
    if bad := list(dict.fromkeys(lines)):
        sys.exit("the table is complete but for: " + "; ".join(bad))


def failed(artefacts: Sequence[Artefact]) -> None:
    """Say where to look, and that a table from before is not of this run."""
    old = [str(table) for table in _tables(artefacts).values() if table.exists()]
    verb = "is of an earlier run and does" if len(old) == 1 else "are of an earlier run and do"
    text = "\nSome jobs failed; the log of each is under runs/. The same command goes on from here."
    print(text + (f" {', '.join(old)} {verb} not show it." if old else ""), file=sys.stderr)


def _of_this_run(artefacts: Sequence[Artefact], description: Callable[[str], str]) -> Iterator[tuple[Path, str]]:
    """The tables that are there and of what was asked for, with their pages; an older one may be of something else."""
    for name, table in _tables(artefacts).items():
        page = table.with_suffix(".md")
        if table.exists() and page.exists():
            text = page.read_text(encoding="utf-8")
            if description(name) in text.splitlines()[0]:
                yield table, text


def _tables(artefacts: Sequence[Artefact]) -> dict[str, Path]:
    """The tables among the artefacts, by name: those whose first file is CSV."""
    return {artefact.name: Path(artefact.paths[0]) for artefact in artefacts if artefact.paths[0].endswith(".csv")}
