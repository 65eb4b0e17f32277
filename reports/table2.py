"""Table 2: the ablations of MAR-3D, and the controls, with intervals, beside the paper's numbers.

Each metric has its mean over objects with a 95 % bootstrap interval, what the paper reports, and the paired
difference to the first setting (`full`) with its interval. Where a protocol counts Chamfer distance in another
unit (`report.cd_unit`), measured and published values are both in that unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from core.randomness import numpy_rng
from evaluation.protocol import Protocol
from evaluation.statistics import bootstrap_mean
from reports import comparison, published
from reports.comparison import CONTEXT, COUNTS, DIFFERENCE, INTERVAL, METRICS, SUMMARY, to_csv
from reports.settings import Setting

__all__ = ["CATEGORY_COLUMNS", "COLUMNS", "METRICS", "Setting", "by_category", "table", "to_csv"]

PER_METRIC = (*SUMMARY, "_published", *DIFFERENCE)
COLUMNS = (
    "setting", "method", "variant", "control",
    *(f"{metric}{suffix}" for metric in METRICS for suffix in PER_METRIC),
    *COUNTS, *CONTEXT, "status", "rows_hash",
)  # fmt: skip
CATEGORY_COLUMNS = (
    "setting", "method", "variant", "control", "category", "held_out",
    *(f"{metric}{suffix}" for metric in METRICS for suffix in INTERVAL),
    *COUNTS, *CONTEXT,
)  # fmt: skip


def table(
    all_rows: pd.DataFrame, settings: Sequence[Setting], protocol: Protocol, printed: Mapping[str, Any]
) -> pd.DataFrame:
    """The table, one row per setting in the order given, columns `COLUMNS`.

    all_rows: of `reports.rows.read`. printed: the published numbers. A setting without rows stands in the
    table as `missing`, one of which nothing succeeded as `failed`, with the reason and without numbers.
    """
    context = comparison.context(all_rows, protocol)
    lines = []
    for setting in settings:
        mine = comparison.rows_of(all_rows, setting)
        line: dict[str, Any] = {"setting": setting.label, "method": setting.method, "variant": setting.variant}
        line |= {"control": setting.control, **context, **comparison.counts(mine), "status": comparison.status(mine)}
        line["rows_hash"] = comparison.hash_of(mine, protocol)
        paper = published.values(printed, "table2", setting.published, protocol)
        line |= {f"{metric}_published": value for metric, value in paper.items()}
        line |= comparison.measurements(all_rows, setting, settings[0], protocol)
        lines.append(line)
    return comparison.frame_of(lines, COLUMNS)


def by_category(
    all_rows: pd.DataFrame, settings: Sequence[Setting], protocol: Protocol, held_out: str | None
) -> pd.DataFrame:
    """The same means for each category of objects; `held_out` marks the one that no training object has."""
    context = comparison.context(all_rows, protocol)
    lines = []
    for setting in settings:
        mine = comparison.rows_of(all_rows, setting)
        if not comparison.measured(mine):
            continue
        for category, part in mine.groupby("category", sort=True):
            line: dict[str, Any] = {"setting": setting.label, "method": setting.method, "variant": setting.variant}
            line |= {"control": setting.control, "category": category, "held_out": int(category == held_out)}
            line |= {**context, **comparison.counts(part)}
            for metric in METRICS:
                _, values = comparison.values(part, metric, protocol)
                rng = numpy_rng(comparison.STREAM, *context.values(), setting.name, metric, "category", str(category))
                interval = bootstrap_mean(values, rng=rng)
                line |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            lines.append(line)
    return comparison.frame_of(lines, CATEGORY_COLUMNS)
