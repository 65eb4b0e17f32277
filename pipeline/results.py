"""Bringing results home: what another machine has finished becomes part of this run, and Snakemake counts it as done.

A result is a stage with its manifest, the meshes of a variant, or a file of rows. It is taken only if its files are
whole, it was made from the data that are here (or from the same meshes, prepared there by the same code) and by the
code that is here; another result in its place stays unless asked otherwise. Snakemake keeps no record of what it did
not make itself and goes by dates, so results are dated in the order in which they follow from each other.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from core.errors import UserError
from core.files import read_json
from pipeline.bundle import describe, extract, files_of, verify, write
from pipeline.dag import Dag
from pipeline.meshes import made_from

MANIFEST = "results.json"
KINDS = ("stages", "generated", "rows")  # in the order in which they follow from each other
STEP = 1e-3  # seconds between the dates of two results


@dataclass(frozen=True)
class Collected:
    """Paths of results: `taken`; `same`, which were here already; `other`, where another result stayed."""

    taken: list[str]
    same: list[str]
    other: list[str]


def gather(dag: Dag, out: Path, *, caches: bool = False) -> tuple[int, float]:
    """Write all finished results of this run to the archive `out`; returns their number and the archive's MB.

    caches: with the files that follow from a stage's weights.
    """
    results = {path.as_posix(): code for path, code in _finished(dag)}
    if not results:
        raise UserError(f"nothing is finished below {dag.root}: there is nothing to bring home")
    files = {path: path.as_posix() for name in results for path in _members(Path(name), caches=caches)}
    record = {"dataset": dag.dataset, "scale": dag.scale, "data_hash": _data_hash(dag), "results": results}
    record["made_from"] = made_from(dag)
    record["files"] = {name: describe(path) for path, name in files.items()}
    return len(results), write(out, MANIFEST, record, files)


def collect(dag: Dag, path: Path, *, replace: bool) -> Collected:
    """Put the results of the archive `path` where this run has them. Raises UserError, before anything is put there,
    for a torn file, and for results of another run, other data or other code.

    replace: put a result also where another one lies.
    """
    collected = Collected([], [], [])
    root = Path(dag.root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".collect-") as temporary:
        folder = Path(temporary)
        extract(path, folder)
        record = verify(folder, MANIFEST)
        _check(record, dag)
        start = time.time() - STEP * len(record["results"])
        for number, name in enumerate(sorted(record["results"], key=lambda name: _order(folder / name))):
            here, there = Path(name), folder / name
            if here.exists() and _hashes(here) == _hashes(there):
                collected.same.append(name)
            elif here.exists() and not replace:
                collected.other.append(name)
                continue
            else:
                _put(there, here)
                collected.taken.append(name)
            for member in _members(here):  # also of what was here: its inputs may have become newer
                os.utime(member, (start + STEP * number,) * 2)
    return collected


def _finished(dag: Dag) -> Iterator[tuple[Path, str]]:
    """Every finished result, and the hash of the code that made it."""
    root = Path(dag.root)
    for path in sorted(root.glob("stages/*/seed*/manifest.json")):
        yield path.parent, read_json(path)["identity"]["code"]
    for path in sorted(root.glob("generated/*/*/seed*/generate.jsonl")):
        yield path.parent, read_json(path.with_name("manifest.json"))["identity"]["code"]
    for path in sorted(root.glob("rows/*/*/*/seed*.parquet")):
        yield path, dag.score_code(SimpleNamespace(protocol=path.parts[-4]))


def _code_here(dag: Dag, name: str) -> str | None:
    """The hash of the code that would make this result here; None where nothing here would."""
    kind, *words = Path(name).relative_to(dag.root).parts
    if kind == "stages":
        return dag.fit_code(SimpleNamespace(stage=words[0])) if words[0] in dag.stages else None
    if kind == "rows":
        return dag.score_code(SimpleNamespace(protocol=words[0]))
    try:
        return dag.generate_code(SimpleNamespace(method=words[0]))
    except UserError:
        return None


def _check(record: dict[str, Any], dag: Dag) -> None:
    run, mine = (record["dataset"], record["scale"]), (dag.dataset, dag.scale)
    if run != mine:
        raise UserError(f"these are results of {'/'.join(run)}, not of {'/'.join(mine)}: give --dataset and --scale")
    if record["data_hash"] != _data_hash(dag) and record.get("made_from") != (made_from(dag) or ""):
        raise UserError(
            f"these results are of other data than {dag.prepared}: collect them where the bundle was packed"
        )
    held = [Path(name) for name in record["results"]]
    for name, code in record["results"].items():
        parts = Path(name).parts
        if ".." in parts or not Path(name).is_relative_to(dag.root) or parts[len(Path(dag.root).parts)] not in KINDS:
            raise UserError(f"{name} is no result of {dag.root}: this is another kind of archive")
        if _code_here(dag, name) != code:
            raise UserError(f"{name} was made by other code than is here: check out the commit that was packed")
    for name in record["files"]:
        if not any(Path(name) == path or Path(name).is_relative_to(path) for path in held):
            raise UserError(f"{name} belongs to no result of {MANIFEST}: this is another kind of archive")


def _data_hash(dag: Dag) -> str:
    path = Path(dag.prepared) / "manifest.json"
    if not path.is_file():
        raise UserError(f"there is no {path}: results are compared with the data that they are of; prepare them first")
    return read_json(path)["data_hash"]


def _order(path: Path) -> tuple[int, float, str]:
    """Stages, then meshes, then rows; stages as they were finished on the other machine, what others need first."""
    kind = next(number for number, kind in enumerate(KINDS) if kind in path.parts)
    record = path / "manifest.json"
    return kind, record.stat().st_mtime if record.exists() else 0.0, path.as_posix()


def _members(path: Path, *, caches: bool = False) -> list[Path]:
    return [path] if path.is_file() else files_of(path, caches=caches)


def _hashes(path: Path) -> dict[str, Any]:
    return {member.relative_to(path).as_posix(): describe(member) for member in _members(path)}


def _put(there: Path, here: Path) -> None:
    here.parent.mkdir(parents=True, exist_ok=True)
    if here.is_dir():
        shutil.rmtree(here)
    os.replace(there, here)
