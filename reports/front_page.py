"""The README's table: the recorded default run in four columns, so that no number of it is typed by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from core.errors import UserError
from core.files import write_text
from core.identity import ROOT

README = ROOT / "README.md"
RECORDED = ROOT / "reports/recorded/cpu-procedural/table2.csv"
HEAD = ("setting", "F@0.1 ↑", "paper", "difference to full", "CD-avg ↓")


def table(rows: pd.DataFrame) -> str:
    """Markdown of a Table 2 as its CSV has it: means with their 95 % intervals; controls in italics."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for row in rows.to_dict("records"):
        name = f"*{row['setting']}*" if isinstance(row["control"], str) else row["setting"]
        cells = (
            name,
            _interval(row, "fscore"),
            _number(row["fscore_published"]),
            _interval(row, "fscore_difference", sign="+"),
            _interval(row, "cd"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def replaced(page: str, new: str) -> str:
    """The page with a new table; the old one begins with the first two heads. Raises UserError where there is none."""
    start = page.find(f"| {HEAD[0]} | {HEAD[1]} |")
    if start < 0:
        raise UserError(f"{README.name} has no table with the columns {HEAD[0]} and {HEAD[1]} to replace")
    return page[:start] + new + page[page.index("\n\n", start) :]


def write(recorded: Path = RECORDED) -> None:
    """Put the recorded table into the README."""
    write_text(README, replaced(README.read_text(encoding="utf-8"), table(pd.read_csv(recorded))))


def _number(value: float, sign: str = "") -> str:
    return "" if pd.isna(value) else f"{value:{sign}.3f}"


def _interval(row: dict[str, float], name: str, sign: str = "") -> str:
    value, low, high = (_number(row[key], sign) for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]" if low else value
