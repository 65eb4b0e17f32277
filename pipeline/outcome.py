"""What a person reads when a run has ended."""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def bad_rows(table: Path) -> list[str]:
    """`method/variant: status` of the rows of a table whose status does not begin with ok."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row["status"].startswith("ok")]
    return [f"{row['method']}/{row['variant']}: {row['status']}" for row in rows]


def succeeded(table: Path, description: str) -> None:
    """Print the table if it is there; exit with status 3 if a method stands in it as failed."""
    page = table.with_suffix(".md")
    if not (table.exists() and page.exists()):
        return
    text = page.read_text(encoding="utf-8")
    if description not in text.splitlines()[0]:  # an older table, and this run made something else
        return
    print(f"\n{text}\nwritten to {table}", file=sys.stderr)
    bad = bad_rows(table)
    if bad:
        sys.exit("the table is complete but for: " + "; ".join(bad))


def failed(table: Path) -> None:
    """Say where to look, and that a table from before is not of this run."""
    old = f" {table} is of an earlier run and does not show it." if table.exists() else ""
    text = "\nSome jobs failed; the log of each is under runs/. The same command goes on from here."
    print(text + old, file=sys.stderr)
