"""What tables say of one setting: means with intervals, paired differences, counts, and a status in words.

Each metric has its mean over objects with a 95 % bootstrap interval, its median over objects, and the paired difference
to another setting with its interval. Where a protocol counts Chamfer distance in another unit (`report.cd_unit`),
values are in that unit. Failed objects count with the worst values of the protocol, which the rows hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from core.errors import UserError
from core.randomness import numpy_rng
from evaluation.protocol import Protocol
from evaluation.statistics import Effect, bootstrap_mean, paired_effect
from reports import rows
from reports.settings import Setting, differs_by_seed

METRICS = ("fscore", "cd", "nc")
INTERVAL = ("", "_low", "_high")
SUMMARY = (*INTERVAL, "_median")
DIFFERENCE = ("_difference", "_difference_low", "_difference_high")
COUNTS = ("n_objects", "n_seeds", "n_failed")
CONTEXT = ("protocol", "scale", "dataset")
STREAM = "table2"
"""What the random streams of means are named after, with context, setting and metric: in every table the same."""
DIFFERENCES = "paired differences"
"""The random stream of every paired difference: the same objects are drawn for all of them, so that a difference has
the same interval wherever it stands, and its reverse the mirrored one."""


def metric_columns(protocol: Protocol) -> dict[str, str]:
    """Which column of the rows each metric of a table is."""
    return {"fscore": f"fscore_{protocol.report.fscore:g}", "cd": protocol.report.cd, "nc": "nc"}


def metric_titles(protocol: Protocol) -> dict[str, str]:
    """How a table heads each metric, with an arrow towards the better: `F@0.1 ↑`."""
    unit = protocol.report.cd_unit
    cd = {"cd_avg": "CD-avg", "cd_sum": "CD-sum", "cd_sq": "CD-sq"}[protocol.report.cd]
    cd += "" if unit == 1 else f" / {unit:g}"
    return {"fscore": f"F@{protocol.report.fscore:g} ↑", "cd": f"{cd} ↓", "nc": "NC ↑"}


def context(all_rows: pd.DataFrame, protocol: Protocol) -> dict[str, str]:
    """Protocol, scale and dataset of the rows, which must be one each. Raises UserError otherwise."""
    found = {name: rows.one(all_rows, name) for name in CONTEXT}
    if found["protocol"] != protocol.name:
        raise UserError(f"the rows are of protocol {found['protocol']}, but the table asks for {protocol.name}")
    return found


def rows_of(all_rows: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The rows of one setting."""
    return all_rows[(all_rows["method"] == setting.method) & (all_rows["variant"] == setting.variant)]


def counts(mine: pd.DataFrame) -> dict[str, int]:
    """How many objects, seeds and failed rows."""
    failed = int((mine["status"] != "ok").sum())
    return {"n_objects": mine["object"].nunique(), "n_seeds": mine["seed"].nunique(), "n_failed": failed}


def measured(mine: pd.DataFrame) -> bool:
    """Whether anything succeeded: where nothing did, the worst values say nothing about the method."""
    return bool((mine["status"] == "ok").any())


def status(mine: pd.DataFrame, absent: str = "missing: no rows") -> str:
    """`ok`; `ok, k failed: reason` (they count with the worst values); `failed: reason`; `absent` without rows."""
    if not len(mine):
        return absent
    failed = mine[mine["status"] != "ok"]
    if not len(failed):
        return "ok"
    reasons = Counter(failed["reason"])
    reason = min(reasons, key=lambda text: (-reasons[text], text))  # the most frequent one, the same in every run
    return f"ok, {len(failed)} failed: {reason}" if measured(mine) else f"failed: {reason}"


def values(mine: pd.DataFrame, metric: str, protocol: Protocol) -> tuple[list[str], np.ndarray]:
    """Objects and their values (n_objects, n_seeds) of `fscore`, `cd` or `nc`, in the protocol's unit."""
    seeds = sorted(int(seed) for seed in mine["seed"].unique())
    objects, table = rows.matrix(mine, metric_columns(protocol)[metric], seeds)
    return objects, table / (protocol.report.cd_unit if metric == "cd" else 1.0)


def paired(parts: Mapping[str, pd.DataFrame], metric: str, protocol: Protocol) -> dict[str, np.ndarray]:
    """The values of several settings (name -> its rows) over the same objects and seeds, (n_objects, n_seeds) each.

    The seeds are those that all have; a setting that no seed changes, such as a control, stands beside every seed of
    the others. Raises UserError if the settings have no seed in common, or were scored on different objects or views.
    """
    seen = {name: set(zip(mine["object"], mine["view"], strict=True)) for name, mine in parts.items()}
    first = next(iter(parts))
    for name in parts:
        if seen[name] != seen[first]:
            raise UserError(f"{name} and {first} were scored on different objects or views; score both again")
    seeds = {name: {int(seed) for seed in mine["seed"].unique()} for name, mine in parts.items()}
    differing = {name: own for name, own in seeds.items() if len(own) > 1 or differs_by_seed(name)}
    common = sorted(set.intersection(*differing.values())) if differing else [0]
    if not common:
        raise UserError(f"{', '.join(parts)} have no seed in common; run them with the same seeds")
    tables = {}
    for name, mine in parts.items():
        chosen = mine[mine["seed"].isin(common)] if name in differing else mine
        table = values(chosen, metric, protocol)[1]
        tables[name] = np.broadcast_to(table, (len(table), len(common)))
    return tables


def effect_of(differences: np.ndarray) -> Effect:
    """The mean of paired differences (n_objects, n_seeds) with its interval and p-value."""
    return paired_effect(differences, rng=numpy_rng(DIFFERENCES))


def hash_of(mine: pd.DataFrame, protocol: Protocol) -> str:
    """A short hash of what the rows say; '' without rows."""
    return rows.hash_of(mine, list(metric_columns(protocol).values())) if len(mine) else ""


def measurements(all_rows: pd.DataFrame, setting: Setting, base: Setting | None, protocol: Protocol) -> dict[str, Any]:
    """Means with intervals of a setting and its paired differences to `base`; empty where nothing was measured.

    The median is over objects, each with its mean over seeds: what a few failed or very bad objects do not move.
    The same rows give the same intervals in whichever table they stand.
    """
    mine = rows_of(all_rows, setting)
    if not measured(mine):
        return {}
    names = (STREAM, *context(all_rows, protocol).values(), setting.name)
    line: dict[str, Any] = {}
    for metric in METRICS:
        found = values(mine, metric, protocol)[1]
        interval = bootstrap_mean(found, rng=numpy_rng(*names, metric))
        line |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        line[f"{metric}_median"] = float(np.median(found.mean(axis=1)))
        if base is None or base.name == setting.name or not measured(rows_of(all_rows, base)):
            continue
        pair = paired({base.name: rows_of(all_rows, base), setting.name: mine}, metric, protocol)
        gap = effect_of(pair[setting.name] - pair[base.name])
        name = f"{metric}_difference"
        line |= {name: gap.mean, f"{name}_low": gap.low, f"{name}_high": gap.high}
    return line


def seconds(mine: pd.DataFrame, setting: Setting, context: Mapping[str, str]) -> dict[str, float]:
    """Mean seconds of sampling one object with their interval, over the objects that a mesh was made for."""
    if "seconds_sample" not in mine:
        return {}
    timed = mine[(mine["status"] == "ok") & mine["seconds_sample"].notna()]
    if not len(timed):
        return {}
    values = timed.groupby("object")["seconds_sample"].mean().to_numpy(np.float64)
    found = bootstrap_mean(values, rng=numpy_rng(STREAM, *context.values(), setting.name, "seconds"))
    return {"seconds": found.mean, "seconds_low": found.low, "seconds_high": found.high}


def to_csv(frame: pd.DataFrame) -> str:
    """CSV with a fixed number of digits, so that equal rows give equal bytes."""
    return frame.to_csv(index=False, float_format="%.5f", lineterminator="\n")


def frame_of(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A table with these columns in this order; what a line does not say is empty."""
    return pd.DataFrame(lines, columns=list(columns))
