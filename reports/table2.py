"""Table 2: the ablations of MAR-3D, and the controls, with intervals, beside the paper's numbers.

Each metric has its mean over objects with a 95 % bootstrap interval, what the paper reports, and the paired
difference to the first setting (`full`) with its interval. Where a protocol counts Chamfer distance in another
unit (`report.cd_unit`), measured and published values are both in that unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.errors import UserError
from core.randomness import numpy_rng
from evaluation.protocol import Protocol
from evaluation.statistics import bootstrap_mean, paired_difference
from reports import published, rows

METRICS = ("fscore", "cd", "nc")
PER_METRIC = ("", "_low", "_high", "_published", "_difference", "_difference_low", "_difference_high")
COLUMNS = (
    "setting", "method", "variant", "control",
    *(f"{metric}{suffix}" for metric in METRICS for suffix in PER_METRIC),
    "n_objects", "n_seeds", "n_failed", "protocol", "scale", "dataset", "status", "rows_hash",
)  # fmt: skip
CATEGORY_COLUMNS = (
    "setting", "method", "variant", "control", "category", "held_out",
    *(f"{metric}{suffix}" for metric in METRICS for suffix in ("", "_low", "_high")),
    "n_objects", "n_seeds", "n_failed", "protocol", "scale", "dataset",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One row of the table. `control`: '' or why it is no competitor; `published`: row of the paper's table."""

    method: str
    variant: str
    label: str
    control: str = ""
    published: str | None = None

    @property
    def name(self) -> str:
        """`mar3d/full`."""
        return f"{self.method}/{self.variant}"


def metric_columns(protocol: Protocol) -> dict[str, str]:
    """Which column of the rows each metric of the table is."""
    return {"fscore": f"fscore_{protocol.report.fscore:g}", "cd": protocol.report.cd, "nc": "nc"}


def table(
    all_rows: pd.DataFrame, settings: Sequence[Setting], protocol: Protocol, printed: Mapping[str, Any]
) -> pd.DataFrame:
    """The table, one row per setting in the order given, columns `COLUMNS`.

    all_rows: of `reports.rows.read`. printed: the published numbers. A setting without rows stands in the
    table as `missing`, one of which nothing succeeded as `failed`, with the reason and without numbers.
    """
    context = _context(all_rows, protocol)
    names, first = metric_columns(protocol), settings[0]
    base = _rows_of(all_rows, first)
    lines = []
    for setting in settings:
        mine = _rows_of(all_rows, setting)
        line: dict[str, Any] = {"setting": setting.label, "method": setting.method, "variant": setting.variant}
        line |= {"control": setting.control, **context, **_counts(mine), "status": _status(mine)}
        line["rows_hash"] = rows.hash_of(mine, list(names.values())) if len(mine) else ""
        paper = published.values(printed, "table2", setting.published, protocol)
        for metric, column in names.items():
            unit = protocol.report.cd_unit if metric == "cd" else 1.0
            if metric in paper:
                line[f"{metric}_published"] = paper[metric]
            if not _measured(mine):
                continue
            objects, values = rows.matrix(mine, column, _seeds(mine))
            rng = numpy_rng("table2", *context.values(), setting.name, metric)
            interval = bootstrap_mean(values / unit, rng=rng)
            line |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            if setting == first or not _measured(base):
                continue
            base_objects, base_values = rows.matrix(base, column, _seeds(base))
            if objects != base_objects:
                raise UserError(f"{setting.name} and {first.name} were scored on different objects; score both again")
            if values.shape != base_values.shape:  # one of them has no randomness: pair means over seeds
                values, base_values = values.mean(1, keepdims=True), base_values.mean(1, keepdims=True)
            rng = numpy_rng("table2", *context.values(), setting.name, metric, "difference")
            gap = paired_difference(values / unit, base_values / unit, rng=rng)
            name = f"{metric}_difference"
            line |= {name: gap.mean, f"{name}_low": gap.low, f"{name}_high": gap.high}
        lines.append(line)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def by_category(
    all_rows: pd.DataFrame, settings: Sequence[Setting], protocol: Protocol, held_out: str | None
) -> pd.DataFrame:
    """The same means for each category of objects; `held_out` marks the one that no training object has."""
    context = _context(all_rows, protocol)
    lines = []
    for setting in settings:
        mine = _rows_of(all_rows, setting)
        if not _measured(mine):
            continue
        for category, part in mine.groupby("category", sort=True):
            line: dict[str, Any] = {"setting": setting.label, "method": setting.method, "variant": setting.variant}
            line |= {"control": setting.control, "category": category, "held_out": int(category == held_out)}
            line |= {**context, **_counts(part)}
            for metric, column in metric_columns(protocol).items():
                unit = protocol.report.cd_unit if metric == "cd" else 1.0
                _, values = rows.matrix(part, column, _seeds(part))
                rng = numpy_rng("table2", *context.values(), setting.name, metric, "category", str(category))
                interval = bootstrap_mean(values / unit, rng=rng)
                line |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            lines.append(line)
    return pd.DataFrame(lines, columns=list(CATEGORY_COLUMNS))


def to_csv(frame: pd.DataFrame) -> str:
    """CSV with a fixed number of digits, so that equal rows give equal bytes."""
    return frame.to_csv(index=False, float_format="%.5f", lineterminator="\n")


def _context(all_rows: pd.DataFrame, protocol: Protocol) -> dict[str, str]:
    context = {name: rows.one(all_rows, name) for name in ("protocol", "scale", "dataset")}
    if context["protocol"] != protocol.name:
        raise UserError(f"the rows are of protocol {context['protocol']}, but the table asks for {protocol.name}")
    return context


def _rows_of(all_rows: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    return all_rows[(all_rows["method"] == setting.method) & (all_rows["variant"] == setting.variant)]


def _seeds(mine: pd.DataFrame) -> list[int]:
    return sorted(int(seed) for seed in mine["seed"].unique())


def _counts(mine: pd.DataFrame) -> dict[str, int]:
    failed = int((mine["status"] != "ok").sum())
    return {"n_objects": mine["object"].nunique(), "n_seeds": mine["seed"].nunique(), "n_failed": failed}


def _measured(mine: pd.DataFrame) -> bool:
    return bool((mine["status"] == "ok").any())


def _status(mine: pd.DataFrame) -> str:
    """`ok`; `ok, k failed: reason` (they count with the worst values); `failed: reason`; `missing: …`."""
    if not len(mine):
        return "missing: no rows"
    failed = mine[mine["status"] != "ok"]
    if not len(failed):
        return "ok"
    counts = Counter(failed["reason"])
    reason = min(counts, key=lambda text: (-counts[text], text))  # the most frequent one, the same in every run
    return f"ok, {len(failed)} failed: {reason}" if _measured(mine) else f"failed: {reason}"
