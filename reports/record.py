"""Keep a run: its tables and figures, and one manifest that says from which code, data, weights and machine they come.

`runs/` is heavy and ignored by git; what stands in `reports/recorded/<name>/` is small and is committed. The
rows are kept too (CSV), so that every number of the table can be computed again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import UserError
from core.files import atomic_path, read_json, write_json
from evaluation.protocol import Protocol
from evaluation.protocol import load as load_protocol
from reports import comparison, rows
from reports.costs import stage_folders

PLACE = ("dataset", "scale")
CONTEXT = (*PLACE, "protocol")
SHARED = ("git", "source", "python", "packages")
"""What is the same for every job of a run, and is said once if so."""
RAN_ON = ("device", "dtype", "threads", "processes")
PER_JOB = ("status", "reason", "key", "seed", "seconds", "peak_memory_mb", "energy_joules", "resumes", *RAN_ON)
COSTS = ("parameters", "step_flops", "optimiser_step_flops", "training_flops")
SPEED = ("step_seconds", "samples_per_second", "data_wait_share", "utilisation")
OF_STAGE = (*COSTS, *SPEED, "val_viou", "posterior_noise", "params", "files")
OF_GENERATION = ("stages", "trained_on", "objects", "failed", "flops")
WRITTEN = ("rows.csv", "manifest.json")


def files_of(reports: Path) -> list[Path]:
    """What there is to keep: all that `reports/all` lists, or Table 2 with what stands beside it.

    Raises UserError if neither is there, and if a listed file is not what it was when the list was made.
    """
    index = reports / "all"
    if not index.exists():
        table = reports / "table2.csv"
        if not table.exists():
            raise UserError(f"{table} is not there: make it first (`snakemake --cores all {table}`)")
        beside = (table, table.with_suffix(".md"), table.with_name(f"{table.stem}_by_category.csv"))
        return [path for path in beside if path.exists()]
    lines = [line.split("  ", 1) for line in index.read_text(encoding="utf-8").splitlines()]
    listed = {reports / Path(name).name: digest for digest, name in lines}
    for path, digest in listed.items():
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise UserError(
                f"{path} is not as {index} lists it: make all again, or delete {index} to keep Table 2 alone"
            )
    return list(listed)


def record(reports: Path, runs: Path, out: Path, also: Sequence[Path] = ()) -> list[str]:
    """Copy a run's files to `out`, with the rows of every setting in its tables and one manifest; returns the names.

    The rows are of every protocol that a table is of; those that the CPU path did not score stand in the manifest as
    `scored_by`. also: pictures and the like that are kept beside them. Raises
    UserError, and writes nothing, if `out` holds anything else: it would stand there as if it were of this run.
    """
    files = files_of(reports)
    kept = {path.name for path in (*files, *also)} | {*WRITTEN}
    if strange := sorted({path.name for path in out.glob("*")} - kept):
        raise UserError(f"{out} holds {', '.join(strange)}, not of this run: make it anew (--also FILE) or delete it")
    tables = [pd.read_csv(path, dtype={"rows_hash": str}) for path in files if path.suffix == ".csv"]
    tables = [table for table in tables if {"method", "variant", *CONTEXT} <= set(table)]
    here = pd.read_csv(reports / "table2.csv")[list(PLACE)].iloc[0]  # Table 1 may show rows of other datasets as well
    place = runs / here["dataset"] / here["scale"]
    shown = pd.concat([table[(table[list(PLACE)] == here).all(axis=1)] for table in tables])
    scored = dict.fromkeys((row.protocol, f"{row.method}/{row.variant}") for row in shown.itertuples())
    scored = [(recipe, name) for recipe, name in scored if (place / "generated" / name).is_dir()]  # others were not run
    out.mkdir(parents=True, exist_ok=True)
    for path in (*files, *also):
        with atomic_path(out / path.name) as temporary:
            shutil.copyfile(path, temporary)
    folders = [place / "rows" / recipe / name for recipe, name in scored]
    found = [path for folder in folders for path in sorted(folder.glob("seed*.parquet"))]
    all_rows = rows.read(found)
    for recipe, lines in shown.groupby("protocol"):
        check_rows(all_rows[all_rows["protocol"] == recipe], lines, load_protocol(str(recipe)))
    rows_name, manifest_name = WRITTEN
    with atomic_path(out / rows_name) as temporary:
        all_rows.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n")
    about = manifest(place, list(dict.fromkeys(name for _, name in scored)))
    if others := rows.backends(found):  # which rows.csv cannot say
        under = place / "rows"
        about["scored_by"] = {
            backend: [Path(path).relative_to(under).with_suffix("").as_posix() for path in paths]
            for backend, paths in others.items()
        }
    write_json(out / manifest_name, about)
    return [*(path.name for path in (*files, *also)), *WRITTEN]


def check_rows(all_rows: pd.DataFrame, shown: pd.DataFrame, protocol: Protocol) -> None:
    """Raise UserError for a setting whose rows are not those that a table was made of: more seeds, or newer ones."""
    for (method, variant), lines in shown.dropna(subset=["rows_hash"]).groupby(["method", "variant"]):
        mine = all_rows[(all_rows["method"] == method) & (all_rows["variant"] == variant)]
        if set(lines["rows_hash"]) - {comparison.hash_of(mine, protocol)}:
            seeds = ", ".join(map(str, sorted(mine["seed"].unique())))
            raise UserError(
                f"the tables were not made of the rows of {method}/{variant} that are there now (protocol"
                f" {protocol.name}, seeds {seeds}): make the tables again, with these seeds, then record"
            )


def manifest(place: Path, names: list[str]) -> dict[str, Any]:
    """The manifests of the generations in `names` (method/variant) and of the stages they used, in one."""
    generated = {
        f"{name}/{path.parent.name}": read_json(path)
        for name in names
        for path in sorted((place / "generated" / name).glob("seed*/manifest.json"))
    }
    used = {folder for job in generated.values() for folder in stage_folders(place, job).values()}
    stages = {
        f"{folder.parent.name}/{folder.name}": read_json(folder / "manifest.json")
        for folder in sorted(used, key=lambda folder: (folder.parent.name, folder.name))
    }
    jobs = [*stages.values(), *generated.values()]
    if not jobs:
        raise UserError(f"{place} holds no manifests: the table is not of these runs")
    shared = {key: jobs[0].get(key) for key in SHARED if all(job.get(key) == jobs[0].get(key) for job in jobs)}

    def about(job: Mapping[str, Any], *more: str) -> dict[str, Any]:
        return {key: job[key] for key in (*PER_JOB, *SHARED, *more) if key in job and key not in shared}

    data = sorted({job["identity"]["data"] for job in jobs if "identity" in job})
    return {
        "dataset": place.parent.name,
        "scale": place.name,
        "data_hash": data,
        **shared,
        "job_seconds": round(sum(job["seconds"] for job in jobs), 1),
        "stages": {name: about(job, *OF_STAGE) for name, job in stages.items()},
        "generated": {name: about(job, *OF_GENERATION) for name, job in generated.items()},
    }
