"""Reading rows (one object x view x method x variant x seed x protocol) and bringing them into shape for statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import UserError
from evaluation.rows import read_backend

TEXT = ("dataset", "scale", "object", "category", "method", "variant", "protocol", "status", "reason", "start")
IDENTITY = ("dataset", "scale", "object", "view", "method", "variant", "seed", "protocol")


def read(paths: Sequence[str | Path], protocol: str | None = None) -> pd.DataFrame:
    """All rows of these files (Parquet, or the CSV of a recorded run), in one fixed order.

    protocol: of a file that holds it beside others, as a recorded run does, its rows alone. Raises UserError for a file
    that holds no rows.
    """
    frames = []
    for path in paths:
        try:
            frame = _read_csv(path) if Path(path).suffix == ".csv" else pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as rows ({error}); delete it and run again") from error
        missing = [column for column in (*IDENTITY, "status", "reason") if column not in frame]
        if missing:
            raise UserError(f"{path} lacks the column {missing[0]!r}; delete it and run again")
        if protocol in set(frame["protocol"]):
            frame = frame[frame["protocol"] == protocol]
        frames.append(frame.dropna(axis="columns", how="all") if len(frame) else frame)
    if not frames:
        raise UserError("there are no rows: name at least one rows file")
    rows = pd.concat(frames, ignore_index=True)
    for column in ("reason", "category"):
        rows[column] = rows[column].fillna("").astype(str) if column in rows else ""
    rows = rows.sort_values(list(IDENTITY), ignore_index=True)
    double = rows.duplicated(list(IDENTITY))
    if double.any():
        first = rows[double].iloc[0]
        raise UserError(f"object {first['object']} of {first['method']}/{first['variant']} stands twice in the rows")
    return rows


def backends(paths: Sequence[str | Path]) -> dict[str, list[str]]:
    """Which of these files were not scored by the CPU path: the record of each other backend, with its files.

    Only Parquet files say; beside a recorded CSV, the run's manifest does (`scored_by`).
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        if Path(path).suffix != ".csv" and (backend := read_backend(Path(path))) != "cpu":
            found.setdefault(backend, []).append(str(path))
    return found


def _read_csv(path: str | Path) -> pd.DataFrame:
    """Rows as `reports.record` keeps them: only an empty field is undefined, an object may be called `NA` or `007`."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=[""])


def one(rows: pd.DataFrame, column: str) -> str:
    """The single value of a column that must not be mixed in one table; UserError otherwise."""
    found = sorted(map(str, rows[column].unique()))
    if len(found) != 1:
        raise UserError(f"one table is of one {column}, but the rows hold {', '.join(found) or 'none'}")
    return found[0]


def matrix(rows: pd.DataFrame, metric: str, seeds: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Objects (sorted) and their values (n_objects, n_seeds) of `metric`, the mean over an object's views.

    Raises UserError if an object lacks a seed.
    """
    table = rows.pivot_table(index="object", columns="seed", values=metric, aggfunc="mean", dropna=False)
    table = table.reindex(columns=list(seeds)).sort_index()
    if table.isna().to_numpy().any():
        name = table.index[table.isna().any(axis="columns")][0]
        raise UserError(f"the rows give no {metric} for object {name} with every seed; score them again")
    return list(table.index), table.to_numpy(np.float64)


def hash_of(rows: pd.DataFrame, metrics: Sequence[str]) -> str:
    """A short hash of what rows say (identity, status, metrics), without what differs from run to run (seconds)."""
    text = rows[[*IDENTITY, "status", *metrics]].to_csv(index=False, float_format="%.9g", lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:10]
