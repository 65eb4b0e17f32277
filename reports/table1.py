"""Table 1: methods beside each other on several test sets, and the paper's rows, marked as published.

A line of the CSV is one setting on one dataset; the page is wide, as the paper's table is. A dataset's rows are of one
scale and of the table's protocol, and different datasets are never averaged. What the paper reports was measured on
other objects and in another way; it stands in lines of its own, without interval, in the units of the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from evaluation.protocol import Protocol
from reports import comparison, markdown, published
from reports.comparison import CONTEXT, COUNTS, METRICS, SUMMARY
from reports.settings import Setting

MEASURED, PUBLISHED = "measured", "published"
COLUMNS = (
    "source", "setting", "method", "variant", "control", "published", *CONTEXT,
    *(f"{metric}{suffix}" for metric in METRICS for suffix in SUMMARY),
    *COUNTS, "status", "rows_hash",
)  # fmt: skip


def table(
    all_rows: pd.DataFrame, settings: Sequence[Setting], protocol: Protocol, printed: Mapping[str, Any]
) -> pd.DataFrame:
    """One line for each setting and dataset, then one for each row and dataset of the paper; columns `COLUMNS`.

    all_rows: of `reports.rows.read`, of any number of datasets. printed: the published numbers. `published` names the
    paper's row of the same system. A setting without rows on a dataset is `not run` there; one of which nothing
    succeeded is `failed`, without numbers. Raises UserError for rows of one dataset at two scales.
    """
    lines = []
    for dataset in sorted(all_rows["dataset"].unique()):
        part = all_rows[all_rows["dataset"] == dataset]
        context = comparison.context(part, protocol)
        for setting in settings:
            mine = comparison.rows_of(part, setting)
            line: dict[str, Any] = {"source": MEASURED, "setting": setting.label, "method": setting.method}
            line |= {"variant": setting.variant, "control": setting.control, **context}
            line |= {"published": row_of(setting, printed), **comparison.counts(mine)}
            line |= {"status": comparison.status(mine, absent="not run")}
            line["rows_hash"] = comparison.hash_of(mine, protocol)
            lines.append(line | comparison.measurements(part, setting, None, protocol))
    frame = comparison.frame_of([*lines, *_published_lines(protocol, printed)], COLUMNS)
    return frame.astype(dict.fromkeys(COUNTS, "Int64"))  # seeds and failures of the paper's rows are not known


def row_of(setting: Setting, printed: Mapping[str, Any]) -> str:
    """The row of the paper's Table 1 that is the same system: what the variant names, or the method's name; or ''."""
    if setting.published in printed["table1"]:
        return str(setting.published)
    return setting.method if setting.variant == "full" and setting.method in printed["table1"] else ""


def _published_lines(protocol: Protocol, printed: Mapping[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for row, by_dataset in printed["table1"].items():
        for dataset in by_dataset:
            line = {"source": PUBLISHED, "setting": printed["labels"][row], "published": row, "dataset": dataset}
            line |= {"n_objects": printed["source"]["objects"], "status": "ok"}
            lines.append(line | published.values(printed, "table1", row, protocol, dataset))
    return lines


def page(frame: pd.DataFrame, protocol: Protocol, printed: Mapping[str, Any]) -> str:
    """The table as Markdown: a line for each setting, three metrics and the number of objects for each dataset."""
    titles, measured = comparison.metric_titles(protocol), frame[frame["source"] == MEASURED]
    datasets = list(dict.fromkeys(frame["dataset"]))
    header = ["setting"]
    for dataset in datasets:
        header += [f"{dataset} {titles[metric]}" for metric in METRICS] + ["objects"]
    lines = []
    for _, part in frame.groupby(["source", "setting", "method", "variant"], sort=False, dropna=False):
        by_dataset = part.set_index("dataset")
        cells = [_name(part.iloc[0])]
        for dataset in datasets:
            cells += _cells(by_dataset.loc[dataset]) if dataset in by_dataset.index else [""] * 4
        lines.append(cells)
    sets = "; ".join(markdown.of(row) for _, row in measured.drop_duplicates("dataset").iterrows())
    names = ", ".join(f"`{word}` {name}" for word, name in printed["datasets"].items())
    caption = (
        f"Table 1: {sets}. Mean over objects with its 95 % bootstrap interval; failed objects count with the worst"
        " values; *controls* are in italics.\n"
        f"Published: as the paper reports them (arXiv {printed['source']['arxiv']}), {printed['source']['objects']}"
        f" objects of each set, other objects and another protocol than here ({names}); the units of its columns are"
        " inferred (reports/published.yaml).\n\n"
    )
    return caption + markdown.grid(header, lines)


def _name(row: pd.Series) -> str:
    if row["source"] == PUBLISHED:
        return f"{row['setting']} (published)"
    return f"*{row['setting']}* ({row['control']})" if row["control"] else str(row["setting"])


def _cells(row: pd.Series) -> list[str]:
    if row["source"] == PUBLISHED:
        return [*(markdown.number(row[metric]) for metric in METRICS), str(row["n_objects"])]
    if not row["status"].startswith("ok"):
        return [markdown.escaped(row["status"]), "", "", str(row["n_objects"])]
    failed = f" ({row['n_failed']:.0f} failed)" if row["n_failed"] else ""
    seeds = f" x {row['n_seeds']:.0f} seeds" if row["n_seeds"] > 1 else ""
    return [*(markdown.interval(row, metric) for metric in METRICS), f"{row['n_objects']}{seeds}{failed}"]
