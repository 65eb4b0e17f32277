"""Fitting one stage: start or resume, record, and turn a method's own failure into a fact instead of a crash.

A stage folder holds `progress.json` while it is being fitted (of which code, data and params its unfinished
work is, how often it was started, and what that has taken) and `manifest.json` once it is done. A method that raises
leaves a manifest with status `failed` and the reason; what needs it says so in turn, and everything else goes on.
"""

from __future__ import annotations

import copy
import errno
import importlib
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import UserError, device_fault, lacks_compiler, out_of_device_memory
from core.files import read_json, write_json
from core.identity import params_key, source_hash
from methods import energy, manifest
from methods.contract import Method, PreparedData
from methods.foresee.cards import utilisation
from methods.places import stage_folder
from methods.registry import fitting_variant, resolve
from methods.sources import method_sources
from methods.specs import HARDWARE, MethodSpec, Plan, StageSpec
from methods.spent import KEY as SPENT
from methods.spent import Spent
from methods.training import processes
from methods.training.log import COSTS, SPEED

MEASURED = "measured.json"
"""What a method itself has measured of a stage, merged into the manifest."""
PROGRESS = "progress.json"
DONE = "done.json"
"""The manifest once more, under a name that no workflow knows and deletes."""

FULL = (
    "The GPU is full: set hardware.device_batch to a part of the batch, which is then computed piece by piece, or lower"
    " hardware.memory_gb, so that less of the data lies on the card (docs/training.md)."
)
"""What to do where a training does not fit; neither changes what is learnt."""

_MACHINE_FAULTS = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EDQUOT, errno.EROFS)


class MethodError(Exception):
    """A method's own code went wrong; the message is one line for the manifest and the table."""


@contextmanager
def failures_of(what: str, *, divisible: bool = False, if_full: str | None = None) -> Iterator[None]:
    """Turn an exception of a method's code into a MethodError; a fault of the machine or the user passes through.

    divisible: whoever calls tries smaller parts of the same work next, so that a full GPU is no fault yet. if_full:
    what to do about one, printed below the error.
    """
    try:
        yield
    except (UserError, MemoryError, MethodError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _MACHINE_FAULTS:
            raise
        if lacks_compiler(error):
            raise UserError(
                "hardware.compile needs a compiler, and there is none: install gcc and g++, or set hardware.compile to"
                " false."
            ) from error
        if device_fault(error) or (out_of_device_memory(error) and not divisible):
            if if_full and out_of_device_memory(error):
                error.add_note(if_full)
            raise
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise MethodError(f"{what}: {reason[:300]}") from error


def make_method(spec: MethodSpec, params: Mapping[str, Any]) -> Method:
    """An instance of the class that a method's `entry` names."""
    module_name, class_name = spec.entry.split(":")
    folder = spec.folder.with_name(spec.code)
    if not (folder / f"{module_name.replace('.', '/')}.py").exists():
        raise UserError(f"methods/{spec.name}/config.yaml: entry {spec.entry!r} names no file of that folder")
    with failures_of("loading the method"):
        module = importlib.import_module(f"methods.{spec.code}.{module_name}")
        if "torch" in sys.modules and "OMP_NUM_THREADS" in os.environ:  # a method may have set its own number
            sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        return getattr(module, class_name)(copy.deepcopy(dict(params)))


def readable_params(plan: Plan, stage: str) -> dict[str, Any]:
    """The params that fitting a stage may read: its own and those of what it needs, as its key says; the hardware."""
    wanted, queue = dict(plan.stage(stage).params), list(plan.stage(stage).needs)
    while queue:
        needed = plan.stage(queue.pop())
        wanted = united(needed.params, wanted)
        queue.extend(needed.needs)
    wanted |= {HARDWARE: plan.params[HARDWARE]} if HARDWARE in plan.params else {}
    return {key: wanted[key] for key in plan.params if key in wanted}


def united(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both, mapping by mapping; what both have is as in `other`."""
    result = {**base, **other}
    for key in base.keys() & other.keys():
        if isinstance(base[key], Mapping) and isinstance(other[key], Mapping):
            result[key] = united(base[key], other[key])
    return result


def fit(
    method: str,
    variant: str,
    stage_name: str,
    data: PreparedData,
    *,
    seed: int,
    runs: Path,
    threads: int,
    killed: str | None = None,
) -> Path:
    """Fit one stage, or resume it, and write its manifest last; returns the stage's folder.

    killed: the reason why no attempt could end; it is recorded as the failure, and nothing is fitted. What was saved
    stays: without the manifest, the same fit would go on from there.
    """
    stage = resolve(method, variant, data.scale).stage(stage_name)
    plan = resolve(stage.owner, fitting_variant(stage, data.scale), data.scale)  # a borrowed stage is its owner's work
    out = stage_folder(runs, data.dataset, data.scale, stage, seed)
    upstream = {need: stage_folder(runs, data.dataset, data.scale, plan.stage(need), seed) for need in stage.needs}
    upstream_manifests = {need: manifest.read_stage(folder) for need, folder in upstream.items()}
    identity = _identity(stage, data, upstream_manifests)
    starts = _begin(out, identity)
    if starts == 0:
        return out
    spent, device = Spent(out / PROGRESS if processes.first() else None), "cpu"
    failure = _known_failure(stage.name, upstream_manifests, killed)
    try:
        if failure is None:
            instance = make_method(plan.method, readable_params(plan, stage.name))
            device = manifest.pick_device()
            cards = processes.per_node() if device == "cuda" else 0
            with (
                failures_of(f"fitting {stage.name}", if_full=FULL),
                energy.metered(cards) as meter,
                spent.noted(lambda: meter.joules),
            ):
                instance.fit(stage.name, data, upstream=upstream, out=out, seed=seed)
    except MethodError as error:
        if processes.count() > 1 and not isinstance(error.__cause__, processes.DivergedError):
            raise UserError(  # the others wait for this process; whoever started them must end them
                f"process {processes.rank() + 1} of {processes.count()} failed ({error}); mend what it says and run the"
                " same command again: it goes on from what was saved."
            ) from error
        failure = str(error)
    if not processes.first():
        return out
    if failure:
        print(f"{stage.folder_name} failed: {failure}", file=sys.stderr)
    machine, measured = manifest.environment(device, threads), _measured(out)
    record = {
        "status": "failed" if failure else "ok",
        "reason": failure,
        "command": "fit",
        "dataset": data.dataset,
        "scale": data.scale,
        "method": stage.owner,
        "stage": stage.name,
        "key": stage.key,
        "seed": seed,
        "params": stage.params,
        "upstream": {need: folder.parent.name for need, folder in upstream.items()},
        "identity": identity,
        "resumes": max(0, starts - 1 - (killed is not None)),
        **spent.record(),
        "peak_memory_mb": manifest.peak_memory_mb(),
        "utilisation": utilisation(machine["device"], measured),
        **machine,
        **measured,
        "files": {} if failure else manifest.result_files(out, measured.get("caches", ())),
    }
    write_json(out / DONE, record)
    write_json(out / manifest.FILE, record)
    if not failure:
        (out / PROGRESS).unlink(missing_ok=True)
        shutil.rmtree(out / "resume", ignore_errors=True)
    return out


def _known_failure(stage: str, upstream: Mapping[str, Mapping[str, Any]], killed: str | None) -> str | None:
    """Why a stage fails before its method is asked: the same in every process. upstream: manifests by stage."""
    if killed is not None:
        return f"fitting {stage}: {killed}"
    failed = {need: record for need, record in upstream.items() if record["status"] != "ok"}
    return next((f"stage {need} failed ({record['reason']})" for need, record in failed.items()), None)


def _identity(stage: StageSpec, data: PreparedData, upstream: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What unfinished or finished work must agree on to count as this stage's. upstream: manifests by stage."""
    return {
        "stage": stage.folder_name,
        "code": source_hash(*method_sources(stage.owner)),
        "data": manifest.data_hash(data.folder, "train", "val"),
        "packages": params_key(manifest.package_versions()),
        "upstream": {need: params_key(record.get("files", {})) for need, record in upstream.items()},
    }


def _measured(out: Path) -> dict[str, Any]:
    """What the training and the method left in a stage's folder for its manifest."""
    paths = [out / name for name in (COSTS, SPEED, MEASURED)]
    return {key: value for path in paths if path.exists() for key, value in read_json(path).items()}


def _begin(out: Path, identity: Mapping[str, Any]) -> int:
    """Make the folder ready (the first process does); returns the starts so far, or 0 if it is finished."""
    starts = 0
    if processes.first() and not _restored(out, identity):
        starts = _start(out, identity)
    if processes.count() > 1:  # the others wait
        from methods.training.devices import device_of, fabric_of

        starts = fabric_of(device_of()).broadcast(starts)
    return starts


def _restored(out: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the folder holds this very stage, finished; then its manifest is written again.

    A workflow that was killed deletes the outputs of jobs it did not see end, the manifest among them; a job
    that outlived it has still done its work.
    """
    if not (out / DONE).exists():
        return False
    record = read_json(out / DONE)
    found = manifest.result_files(out, record.get("caches", ()))
    whole = record["status"] == "ok" and record["identity"] == identity and record["files"] == found
    if whole:
        print(f"{out}: finished before; keeping it", file=sys.stderr)
        write_json(out / manifest.FILE, record)
    return whole


def _start(out: Path, identity: Mapping[str, Any]) -> int:
    """Make the folder ready: keep unfinished work of the same identity, drop any other; returns the starts so far."""
    progress = out / PROGRESS
    before = read_json(progress) if progress.exists() else {}
    same = before.get("identity") == identity
    if before and not same:
        print(f"{out}: the unfinished work there is of other code or data; starting over", file=sys.stderr)
    if not same and out.exists():
        for path in out.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".log":  # somebody may be writing it at this moment
                path.unlink()
    starts = before["starts"] + 1 if same else 1
    if same:
        print(f"{out}: resuming (start {starts})", file=sys.stderr)
    (out / manifest.FILE).unlink(missing_ok=True)
    for torn in out.glob(".*"):  # temporary files of a killed start
        torn.unlink()
    write_json(progress, {"identity": identity, "starts": starts, SPENT: before.get(SPENT, []) if same else []})
    return starts
