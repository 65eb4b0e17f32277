"""Keep a run: its tables, and one manifest that says from which code, data, weights and machine they come.

`runs/` is heavy and ignored by git; what stands in `reports/recorded/<name>/` is small and is committed. The
rows are kept too (CSV), so that every number of the table can be computed again.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import UserError
from core.files import atomic_path, read_json, write_json
from reports import rows

SHARED = ("git", "source", "python", "packages")
"""What is the same for every job of a run, and is said once if so."""
PER_JOB = ("status", "reason", "key", "seed", "seconds", "peak_memory_mb", "resumes", "device", "dtype", "threads")


def record(table: Path, runs: Path, out: Path) -> list[str]:
    """Copy `table` with what stands beside it, its rows and a manifest to `out`; returns the files' names."""
    if not table.exists():
        raise UserError(f"{table} is not there: make it first (`snakemake --cores all {table}`)")
    frame = pd.read_csv(table)
    place = runs / frame["dataset"].iloc[0] / frame["scale"].iloc[0]
    protocol = frame["protocol"].iloc[0]
    out.mkdir(parents=True, exist_ok=True)
    beside = (table, table.with_suffix(".md"), table.with_name(f"{table.stem}_by_category.csv"))
    copied = [path for path in beside if path.exists()]
    for path in copied:
        with atomic_path(out / path.name) as temporary:
            shutil.copyfile(path, temporary)
    folders = [f"{row.method}/{row.variant}" for row in frame.itertuples()]
    found = [path for name in folders for path in sorted((place / "rows" / protocol / name).glob("seed*.parquet"))]
    with atomic_path(out / "rows.csv") as temporary:
        rows.read(found).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
    write_json(out / "manifest.json", manifest(place, folders))
    return [*(path.name for path in copied), "rows.csv", "manifest.json"]


def manifest(place: Path, names: list[str]) -> dict[str, Any]:
    """The manifests of the generations in `names` (method/variant) and of the stages they used, in one."""
    generated = {
        f"{name}/{path.parent.name}": read_json(path)
        for name in names
        for path in sorted((place / "generated" / name).glob("seed*/manifest.json"))
    }
    used = {(stage, job["seed"]) for job in generated.values() for stage in job["stages"].values()}
    stages = {
        f"{stage}/seed{seed}": read_json(place / "stages" / stage / f"seed{seed}" / "manifest.json")
        for stage, seed in sorted(used)
    }
    jobs = [*stages.values(), *generated.values()]
    if not jobs:
        raise UserError(f"{place} holds no manifests: the table is not of these runs")
    shared = {key: jobs[0].get(key) for key in SHARED if all(job.get(key) == jobs[0].get(key) for job in jobs)}

    def about(job: Mapping[str, Any], *more: str) -> dict[str, Any]:
        return {key: job[key] for key in (*PER_JOB, *SHARED, *more) if key in job and key not in shared}

    data = sorted({job["identity"]["data"] for job in jobs if "identity" in job})
    return {
        "dataset": jobs[0]["dataset"],
        "scale": jobs[0]["scale"],
        "data_hash": data,
        **shared,
        "job_seconds": round(sum(job["seconds"] for job in jobs), 1),
        "stages": {name: about(job, "val_viou", "posterior_noise", "params", "files") for name, job in stages.items()},
        "generated": {name: about(job, "stages", "objects", "failed") for name, job in generated.items()},
    }
