"""Table 2 as Markdown: what was measured, with interval; the paper's value; the difference to the first row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from evaluation.protocol import Protocol
from reports.table2 import METRICS

ARROWS = {"fscore": "↑", "cd": "↓", "nc": "↑"}


def render(frame: pd.DataFrame, protocol: Protocol, printed: Mapping[str, Any]) -> str:
    """The table as Markdown text, ending with a newline."""
    titles = {"fscore": f"F@{protocol.report.fscore:g}", "cd": _cd_title(protocol), "nc": "NC"}
    first = frame.iloc[0]
    header = ["setting"]
    for metric in METRICS:
        header += [f"{titles[metric]} {ARROWS[metric]}", "paper", f"− {first['variant']}"]
    header += ["objects", "seeds", "status"]
    lines = [_line(header), _line(["---"] * len(header))]
    for _, row in frame.iterrows():
        cells = [f"*{row['setting']}* ({row['control']})" if row["control"] else str(row["setting"])]
        for metric in METRICS:
            cells.append(_interval(row, metric))
            cells.append(_number(row[f"{metric}_published"]))
            cells.append(_interval(row, f"{metric}_difference", sign=True))
        cells += [str(row["n_objects"]), str(row["n_seeds"]), _escaped(row["status"])]
        lines.append(_line(cells))
    return "\n".join(_caption(first, protocol, printed) + lines) + "\n"


def _caption(first: pd.Series, protocol: Protocol, printed: Mapping[str, Any]) -> list[str]:
    return [
        f"Table 2: dataset {first['dataset']}, scale {first['scale']}, protocol {protocol.name}. Mean over objects"
        " with its 95 % bootstrap interval; failed objects count with the worst values; *controls* are in italics.",
        f"Paper: arXiv {printed['source']['arxiv']}, on Google Scanned Objects, with other data and sizes than here;"
        " the units of its columns are inferred (reports/published.yaml).",
        "",
    ]


def _cd_title(protocol: Protocol) -> str:
    unit = protocol.report.cd_unit
    name = {"cd_avg": "CD-avg", "cd_sum": "CD-sum", "cd_sq": "CD-sq"}[protocol.report.cd]
    return name if unit == 1 else f"{name} / {unit:g}"


def _number(value: Any, sign: bool = False) -> str:
    return "" if pd.isna(value) else f"{value:{'+' if sign else ''}.4f}"


def _interval(row: pd.Series, name: str, sign: bool = False) -> str:
    if pd.isna(row[name]):
        return ""
    low, high = _number(row[f"{name}_low"], sign), _number(row[f"{name}_high"], sign)
    return f"{_number(row[name], sign)} [{low}, {high}]"


def _escaped(text: Any) -> str:
    return " ".join(str(text).replace("|", "\\|").split())


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
