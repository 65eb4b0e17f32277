"""Generating: one mesh for every evaluation view, in fixed batches that survive a kill.

The evaluation views are cut into batches that never change; a finished batch leaves its meshes and
`resume/{batch}.jsonl`, and is not redone if the run is started again with the same code, weights and data.
`generate.jsonl` comes last and whole: one line per object and view, failed ones with the reason.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.files import read_json, write_json, write_text
from core.identity import params_key, source_hash
from core.progress import Progress
from core.randomness import numpy_rng
from data.store import Sample, Split, evaluation_views
from methods import energy, manifest
from methods.contract import TIMED, Failure, Generator, Mesh, PreparedData
from methods.external import folder as external
from methods.meshes import fault, file_name, write_ply
from methods.places import stage_folder
from methods.registry import deciding, resolve
from methods.run import MethodError, failures_of, make_method
from methods.sources import method_sources
from methods.specs import EXTERNAL, Plan
from methods.spent import KEY as SPENT
from methods.spent import Spent

ROWS = "generate.jsonl"
FLOPS = "flops.json"
BATCH = 8


def generate(
    method: str,
    variant: str,
    data: PreparedData,
    *,
    seed: int,
    runs: Path,
    out: Path,
    threads: int,
    views: int = 1,
    batch: int | None = None,
    trained_on: str | None = None,
    killed: str | None = None,
) -> Path:
    """Write `out/generate.jsonl` and `out/meshes/` for `views` upright views of each test object.

    trained_on: the dataset whose stages are used, if it is not that of the test objects. killed: the reason why no
    attempt could end; objects that have no result yet fail with it, and nothing is generated.
    """
    if views < 1 or (batch is not None and batch < 1):
        raise UserError(f"views is {views} and batch is {batch}; both must be at least 1")
    plan = resolve(method, variant, data.scale)
    batch = batch or plan.method.resources.get("batch", BATCH)
    split = Split(data.folder, "test")
    pairs = evaluation_views(split, views)
    batches = [pairs[start : start + batch] for start in range(0, len(pairs), batch)]
    home = data.dataset if plan.method.kind == EXTERNAL else trained_on or data.dataset
    stages = {stage.name: stage_folder(runs, home, data.scale, stage, seed) for stage in plan.stages}
    records = {name: manifest.read_stage(folder) for name, folder in stages.items()}
    identity = _identity(plan, data, seed, records, pairs, batch)
    starts = _start(out, identity)
    spent = Spent(_progress(out))
    todo = [number for number in range(len(batches)) if not _part(out, number).exists()]
    broken = next((f"stage {name} failed ({r['reason']})" for name, r in records.items() if r["status"] != "ok"), None)
    broken = broken or (f"generating: {killed}" if killed is not None else None)
    generator, device, lost = None, "cpu", 0
    if broken is None and todo:
        try:
            instance = make_method(plan.method, plan.params)
            device = manifest.pick_device()
            with failures_of("loading the weights"):
                generator = instance.load(stages, device)
        except MethodError as error:
            broken = str(error)
    flops = _flops(out, generator, split, pairs)
    progress = Progress(f"{method}/{variant} seed {seed}", len(batches), done=len(batches) - len(todo))
    with contextlib.ExitStack() as stack:
        if generator is not None:
            meter = stack.enter_context(energy.metered(int(device == "cuda")))
            stack.enter_context(spent.noted(lambda: meter.joules))
        for done, number in enumerate(todo, len(batches) - len(todo) + 1):
            samples = [split.sample(i, v) for i, v in batches[number]]
            if generator is None:
                results: Sequence[Mesh | Failure] = [Failure(broken or "the method was not loaded") for _ in samples]
            else:
                results = run_batch(generator, samples, (data.dataset, data.scale, method, variant, seed), plan)
            rows = [_keep(out, sample, result) for sample, result in zip(samples, results, strict=True)]
            write_text(_part(out, number), "".join(json.dumps(row) + "\n" for row in rows))
            lost += sum(row["status"] == "failed" for row in rows)
            progress.update(done, f"{lost} failed" if lost else "")
    text = "".join(_part(out, number).read_text(encoding="utf-8") for number in range(len(batches)))
    failed = sum(json.loads(line)["status"] == "failed" for line in text.splitlines())
    if failed:
        print(f"{method}/{variant}: {failed} of {len(pairs)} objects have no mesh; {ROWS} says why", file=sys.stderr)
    record = {
        "status": "failed" if broken else "ok",
        "reason": broken,
        "command": "generate",
        "dataset": data.dataset,
        "trained_on": home,
        "scale": data.scale,
        "method": method,
        "variant": variant,
        "seed": seed,
        "params": plan.params,
        "stages": {stage.name: stage.folder_name for stage in plan.stages},
        "identity": identity,
        "batch": batch,
        "objects": len(pairs),
        "failed": failed,
        "flops": flops,
        "resumes": max(0, starts - 1 - (killed is not None)),
        **spent.record(),
        "peak_memory_mb": manifest.peak_memory_mb(),
        **manifest.environment(device, threads, getattr(generator, "precision", "fp32")),
    }
    write_json(out / manifest.FILE, record)
    write_text(out / ROWS, text)
    shutil.rmtree(out / "resume")
    return out / ROWS


def run_batch(
    generator: Generator, samples: Sequence[Sample], names: Sequence[str | int], plan: Plan
) -> list[Mesh | Failure]:
    """Results of one batch; if the method raises, object by object, so that a bad object is one failure.

    So is a batch that a GPU's memory does not hold; that it does not hold one object is a fault of the machine.

    Every attempt gets fresh generators named after the object, so the way a mesh came about does not show in it.
    """

    def attempt(part: Sequence[Sample]) -> list[Mesh | Failure]:
        with failures_of("generating", divisible=len(part) > 1):
            truth = _truth(generator, part, plan)
            results = generator.generate(
                np.stack([sample.image() for sample in part]),
                rngs=[numpy_rng(*names, sample.object, sample.view_index, "generate") for sample in part],
                ground_truth=truth,
            )
            if len(results) != len(part):
                raise ValueError(f"{len(results)} results for {len(part)} images")
        return list(results)

    try:
        return attempt(samples)
    except MethodError as error:
        if len(samples) == 1:
            return [Failure(str(error))]
    # Not in the handler: its traceback would hold the tensors of the whole batch; in Python 3.13 it is part of a cycle.
    gc.collect()
    return [result for sample in samples for result in run_batch(generator, [sample], names, plan)]


def _truth(generator: Generator, samples: Sequence[Sample], plan: Plan) -> list[Sample] | None:
    """What a method is handed of the ground truth: the samples if its config declares that it reads it, else None.

    Raises ValueError for one that cannot do without and does not declare it.
    """
    if plan.method.reads_ground_truth:
        return list(samples)
    parameter = inspect.signature(generator.generate).parameters.get("ground_truth")
    if parameter is not None and parameter.default is inspect.Parameter.empty:
        raise ValueError("the method needs the ground truth; its config.yaml must say reads_ground_truth: true")
    return None


def _flops(
    out: Path, generator: Generator | None, split: Split, pairs: Sequence[tuple[int, int]]
) -> Mapping[str, float] | None:
    """FLOPs of one object by part, where the generator counts them; apart from the run, whose times they would mar."""
    path = out / "resume" / FLOPS
    if path.exists():
        return read_json(path)
    if generator is None or not hasattr(generator, "flops"):
        return None
    try:
        with failures_of("counting FLOPs"):
            counts = generator.flops(np.stack([split.sample(*pairs[0]).image()]), rngs=[numpy_rng("flops")])
    except MethodError:  # the run itself will say what is wrong with this object
        return None
    write_json(path, counts)
    return counts


def _keep(out: Path, sample: Sample, result: Mesh | Failure) -> dict[str, Any]:
    """Write a result's mesh, if it has a sound one, and return its row."""
    row = {"object": sample.object, "view": sample.view_index, "category": sample.category}
    reason = result.reason if isinstance(result, Failure) else fault(result)
    timed = {} if isinstance(result, Failure) else result.seconds
    seconds = {part: round(float(timed[part]), 6) for part in TIMED if part in timed}
    if reason is not None:
        nothing = {"mesh": None, "vertices": None, "faces": None}
        return {**row, "status": "failed", "reason": reason, **nothing, "seconds": seconds}
    path = f"meshes/{file_name(sample.object, sample.view_index)}"
    write_ply(out / path, result.vertices, result.faces)
    counts = {"mesh": path, "vertices": len(result.vertices), "faces": len(result.faces)}
    return {**row, "status": "ok", "reason": None, **counts, "seconds": seconds}


def _identity(
    plan: Plan,
    data: PreparedData,
    seed: int,
    records: Mapping[str, Mapping[str, Any]],
    pairs: list[tuple[int, int]],
    batch: int,
) -> dict[str, Any]:
    identity = {
        "run": [data.dataset, data.scale, plan.method.name, plan.variant.name, seed],
        "params": params_key(deciding(plan.params)),
        "code": source_hash("methods/generate.py", "methods/meshes.py", *method_sources(plan.method.name)),
        "data": manifest.data_hash(data.folder, "test"),
        "packages": params_key(manifest.package_versions()),
        "stages": {stage.name: stage.folder_name for stage in plan.stages},
        "weights": {name: params_key([record["status"], record.get("files", {})]) for name, record in records.items()},
        "batches": params_key([pairs, batch]),
    }
    if plan.method.kind == EXTERNAL:
        root = external.root_of(plan.params, data.dataset)
        identity["meshes"] = manifest.files_hash(root, external.mesh_files(root))
    return identity


def _part(out: Path, number: int) -> Path:
    return out / "resume" / f"{number:05d}.jsonl"


def _progress(out: Path) -> Path:
    return out / "resume" / "progress.json"


def _start(out: Path, identity: Mapping[str, Any]) -> int:
    """Keep finished batches of the same identity, drop all else; returns how often this run was started so far."""
    progress = _progress(out)
    before = read_json(progress) if progress.exists() else {}
    same = before.get("identity") == identity
    if before and not same:
        print(f"{out}: the finished batches there are of other code, weights or data; starting over", file=sys.stderr)
    if not same:
        for name in ("resume", "meshes"):
            shutil.rmtree(out / name, ignore_errors=True)
    for name in (ROWS, manifest.FILE):
        (out / name).unlink(missing_ok=True)
    for torn in (*out.glob(".*"), *out.glob("meshes/.*")):  # temporary files of a killed start
        torn.unlink()
    starts = before["starts"] + 1 if same else 1
    if same:
        kept = len(list((out / "resume").glob("*.jsonl")))
        print(f"{out}: resuming with {kept} finished batches", file=sys.stderr)
    write_json(progress, {"identity": identity, "starts": starts, SPENT: before.get(SPENT, []) if same else []})
    return starts
