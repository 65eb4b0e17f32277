"""Tables as Markdown: the cells that all of them share, and the page of Table 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from evaluation.protocol import Protocol
from reports.comparison import METRICS, metric_titles


def number(value: Any, sign: bool = False) -> str:
    """Four digits, or nothing for NaN."""
    return "" if pd.isna(value) else f"{value:{'+' if sign else ''}.4f}"


def interval(row: Mapping[str, Any], name: str, sign: bool = False) -> str:
    """`0.7509 [0.7040, 0.7977]` from the columns `name`, `name_low` and `name_high`; nothing for NaN.

    One object has no interval, and the cell says so.
    """
    if pd.isna(row[name]):
        return ""
    if pd.isna(row[f"{name}_low"]):
        return f"{number(row[name], sign)} (no interval)"
    low, high = number(row[f"{name}_low"], sign), number(row[f"{name}_high"], sign)
    return f"{number(row[name], sign)} [{low}, {high}]"


def escaped(text: Any) -> str:
    """Text for one cell."""
    return " ".join(str(text).replace("|", "\\|").split())


def grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The rows of a Markdown table, ending with a newline."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ["---"] * len(header), *lines))


def of(context: Mapping[str, Any]) -> str:
    """What a table is of, as the run that makes it says: the first line of its page holds it."""
    return f"dataset {context['dataset']}, scale {context['scale']}, protocol {context['protocol']}"


def scored_by(backends: Mapping[str, Sequence[str]], n: int) -> str:
    """The last lines of a page whose n files of rows are not all of the CPU path (`reports.rows.backends`), or ''."""
    lines = [f"Scored by {name} in {len(files)} of {n} files of rows.\n" for name, files in backends.items()]
    return "\n" + "".join(lines) if lines else ""


def render(frame: pd.DataFrame, protocol: Protocol, printed: Mapping[str, Any]) -> str:
    """Table 2: what was measured, with interval; the paper's value; the difference to the first row."""
    titles, first = metric_titles(protocol), frame.iloc[0]
    header = ["setting"]
    for metric in METRICS:
        header += [titles[metric], "paper", f"− {first['variant']}"]
    header += ["objects", "seeds", "status"]
    lines = []
    for _, row in frame.iterrows():
        cells = [f"*{row['setting']}* ({row['control']})" if row["control"] else str(row["setting"])]
        for metric in METRICS:
            cells.append(interval(row, metric))
            cells.append(number(row[f"{metric}_published"]))
            cells.append(interval(row, f"{metric}_difference", sign=True))
        lines.append([*cells, str(row["n_objects"]), str(row["n_seeds"]), escaped(row["status"])])
    caption = (
        f"Table 2: {of(first)}. Mean over objects"
        " with its 95 % bootstrap interval; failed objects count with the worst values; *controls* are in italics.\n"
        f"Paper: arXiv {printed['source']['arxiv']}, on Google Scanned Objects, with other data and sizes than here;"
        " the units of its columns are inferred (reports/published.yaml).\n\n"
    )
    return caption + grid(header, lines)
