"""A folder of generated meshes to rows: one line an object and view, in the order of `generate.jsonl`.

Every pair is scored by itself in a process of one thread, with seeds that follow from names: the rows are the same
bit for bit whatever the number of processes. Each ground truth is the prepared mesh in the same view.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import UserError
from core.files import atomic_path
from core.progress import Progress
from core.threads import thread_variables
from data.store import Split
from evaluation import backends, load, placement, score
from evaluation.backends import CPU, Choice
from evaluation.protocol import Protocol
from methods.contract import TIMED

LABELS = ("dataset", "scale", "method", "variant", "seed")
BACKEND = b"evaluation_backend"
ONE_THREAD = thread_variables(1)


@dataclass(frozen=True)
class Task:
    """One line of `generate.jsonl`, found in the test split. mesh: the file, or None with the reason why not."""

    object: str
    view: int
    category: str
    index: int
    mesh: Path | None
    reason: str
    seconds: Mapping[str, float]


def score_folder(
    generated: Path,
    prepared: Path,
    protocol: Protocol,
    labels: Mapping[str, str | int],
    *,
    processes: int = 1,
    backend: Choice = CPU,
) -> pd.DataFrame:
    """Score all that `generated/generate.jsonl` lists against the test split of `prepared`.

    labels: dataset, scale, method, variant, seed. backend: of `evaluation.backends.choose`. A failed generation or an
    unreadable mesh is a row with status "failed", its reason and the numbers of the protocol's failure policy. Raises
    `UserError` for input that cannot be read, and for a ground truth that cannot be scored.
    """
    if processes < 1:
        raise UserError(f"--threads is {processes}: it must be at least 1")
    tasks = read_tasks(generated, Split(prepared, "test"))
    label = f"score {labels['method']}/{labels['variant']} seed {labels['seed']}"
    progress = Progress(label, len(tasks))
    found: list[dict[str, Any]] = []
    settings = (prepared, protocol, os.getpid(), backend)
    with _environment(ONE_THREAD):  # read by the workers when their libraries load
        context = multiprocessing.get_context("spawn")
        workers = min(processes, len(tasks))
        try:
            with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=settings) as pool:
                for row in pool.map(_score_one, tasks):
                    found.append(row)
                    failures = sum(row["status"] != "ok" for row in found)
                    progress.update(len(found), f"{failures} failed")
        except BrokenProcessPool as error:
            raise UserError(
                "a scoring process was killed, perhaps for memory: run again with fewer --threads"
            ) from error
    columns = column_types(protocol)
    rows = [dict(labels) | {"protocol": protocol.name} | row for row in found]
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in columns.items()})


def column_types(protocol: Protocol) -> dict[str, str]:
    """Columns of a row in order, with their pandas types. Undefined numbers are NaN, reasons of good rows empty."""
    metrics = protocol.metrics
    kinds = dict.fromkeys(("dataset", "scale", "object"), "str") | {"view": "int64"}
    kinds |= dict.fromkeys(("category", "method", "variant"), "str") | {"seed": "int64"}
    kinds |= dict.fromkeys(("protocol", "status", "reason"), "str")
    kinds |= dict.fromkeys(metrics + [name + score.BEFORE for name in metrics], "float64")
    kinds |= dict.fromkeys(("rotation_deg", "align_scale", "residual"), "float64") | {"start": "str"}
    kinds |= dict.fromkeys(placement.COLUMNS, "float64")
    kinds |= {"vertices": "int64", "faces": "int64", "watertight": "bool", "components": "int64"}
    return kinds | {f"seconds_{part}": "float64" for part in TIMED}


def write(table: pd.DataFrame, path: Path, *, backend: str = "") -> None:
    """Write rows as Parquet, atomically; equal rows give equal bytes.

    backend: what scored them, where it was not the CPU path (`Choice.record`); it stands in the file's metadata.
    """
    rows = pa.Table.from_pandas(table, preserve_index=False)
    if backend:
        rows = rows.replace_schema_metadata({**(rows.schema.metadata or {}), BACKEND: backend.encode()})
    with atomic_path(path) as temporary:
        pq.write_table(rows, temporary, compression="zstd")


def read_backend(path: Path) -> str:
    """What scored the rows of a Parquet file: `cpu`, or the record of another backend."""
    return ((pq.read_schema(path).metadata or {}).get(BACKEND) or b"cpu").decode()


def read_tasks(generated: Path, split: Split) -> list[Task]:
    """What is to be scored. Raises `UserError` for a file that is absent, broken, or of another dataset."""
    path = Path(generated) / "generate.jsonl"
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `python -m methods generate` first")
    position = {name: index for index, name in enumerate(split.objects)}
    tasks: list[Task] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
            name, view, ok = record["object"], int(record["view"]), record["status"] == "ok"
            mesh = Path(generated) / record["mesh"] if ok else None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where} is not a record of a generated object ({error!r}): generate again") from error
        if name not in position:
            raise UserError(f"{where}: object {name!r} is not in the test split of {split.folder}: check --prepared")
        if not 0 <= view < split.n_views:
            raise UserError(f"{where}: view {view} does not exist, the objects of {split.folder} have {split.n_views}")
        reason = "" if ok else str(record.get("reason") or "the method gave no reason")
        category = str(record.get("category") or "")
        tasks.append(Task(name, view, category, position[name], mesh, reason, record.get("seconds") or {}))
    if not tasks:
        raise UserError(f"{path} is empty: generate again")
    return tasks


def score_task(task: Task, split: Split, protocol: Protocol) -> dict[str, Any]:
    """The columns of one row, without the labels of the run."""
    try:
        truth_mesh = load.clean(*split.sample(task.index, task.view).mesh())
        # The samples of an object differ from view to view: its views are separate looks at it.
        name = f"{task.object}.v{task.view:02d}"
        truth = score.prepare_truth(truth_mesh, protocol, name)
    except load.MeshError as error:
        raise UserError(
            f"the ground truth of {task.object!r} cannot be scored ({error}): leave it out of the test split"
        ) from error
    row: dict[str, Any] = {"object": task.object, "view": task.view, "category": task.category}
    row |= {f"seconds_{part}": float(task.seconds.get(part, "nan")) for part in TIMED}
    try:
        if task.mesh is None:
            raise load.MeshError(task.reason)
        mesh = load.read(task.mesh)
        row |= score.score_prepared(mesh, truth, protocol, name=name)
    except load.MeshError as error:
        row |= {"status": "failed", "reason": str(error)} | score.failed(protocol, watertight=truth_mesh.watertight)
        return row | {"vertices": 0, "faces": 0, "watertight": False, "components": 0}
    row |= {"status": "ok", "reason": "", "vertices": len(mesh.vertices), "faces": len(mesh.faces)}
    return row | {"watertight": mesh.watertight, "components": mesh.components}


_worker: tuple[Split, Protocol] | None = None


def _start(prepared: Path, protocol: Protocol, parent: int, backend: Choice) -> None:
    """Set up a worker process; it ends with its parent, however that ends."""
    global _worker
    _worker = Split(prepared, "test"), protocol
    backends.use(backend)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _score_one(task: Task) -> dict[str, Any]:
    assert _worker is not None, "the pool starts every worker with _start"
    return score_task(task, *_worker)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
