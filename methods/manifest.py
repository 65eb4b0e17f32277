"""The record beside every result: which code, data, packages and machine made it, and what it took.

`files` are hashed when they are written, so that a consumer can tell a whole set of weights from a torn one
and knows when its own unfinished work belongs to other weights. `caches` names files that follow from those: a stage
is whole without them, archives leave them out, and the method makes them again where it wants them.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import read_json, sha256_of
from core.identity import ROOT, params_key, source_hash
from methods.training.log import COSTS, SPEED

FILE = "manifest.json"
ROOMS = ("core", "data", "methods", "evaluation", "reports")
PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "safetensors", "transformers", "trimesh", "embreex", "Pillow")
OPTIONAL = ("kaolin",)
"""Packages that some results depend on: recorded by the runs that have imported them."""
_NOT_RESULTS = (FILE, "fit.jsonl", "progress.json", "measured.json", COSTS, SPEED, "done.json")


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the repository; None for both where git or the repository is absent."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that results depend on, where installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def pick_device() -> str:
    """`cuda` if the method has imported torch and torch can use a GPU, else `cpu`; UserError as of `device_of`."""
    if "torch" not in sys.modules:  # a method that does without torch is spared its start-up time
        return "cpu"
    from methods.training.devices import device_of

    return device_of().type


def device_record(device: str) -> dict[str, Any]:
    """Name and count of the devices that were obtained."""
    torch = sys.modules.get("torch")
    if device == "cuda" and torch is not None:
        return {"kind": "cuda", "name": torch.cuda.get_device_name(0), "count": torch.cuda.device_count()}
    return {"kind": "cpu", "name": _cpu_name(), "count": len(os.sched_getaffinity(0))}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def peak_memory_mb() -> dict[str, float]:
    """Largest resident memory of this process and, where CUDA was used, largest allocation on the device, in MiB."""
    peak = {"host": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)}  # Linux counts KiB
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        peak["device"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return peak


def environment(device: str, threads: int, dtype: str = "fp32") -> dict[str, Any]:
    """What a run stands on: code, packages, machine. dtype: of its matrix products, where the method says another."""
    optional = [name for name in OPTIONAL if sys.modules.get(name) is not None]
    return {
        "git": git_state(),
        "source": {room: source_hash(room) for room in ROOMS if (ROOT / room).is_dir()},
        "python": platform.python_version(),
        "packages": package_versions() | package_versions(optional),
        "device": device_record(device),
        "dtype": dtype,
        "threads": threads,
    }


def data_hash(folder: Path, *splits: str) -> str:
    """Hash of the splits' prepared shards: by the folder's manifest where it has one, else by their bytes.

    Of no other splits, so that a training is not of other data where test objects come or go.
    """
    if (folder / FILE).exists():
        about = read_json(folder / FILE)["splits"]
        return params_key([[split, about[split]["sha256"]] for split in splits if split in about])
    from data.store import shard_paths

    shards = [(split, path) for split in splits for path in shard_paths(folder, split)]
    return params_key([[split, path.name, sha256_of(path)] for split, path in shards])


def result_files(folder: Path, caches: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of the files that a stage leaves (weights and the like, not its records and `caches`)."""
    but = {*_NOT_RESULTS, *caches}
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.name not in but and p.name[0] != ".")
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in paths}


def files_hash(root: Path, paths: Iterable[Path]) -> str:
    """Hash of the names (below `root`) and bytes of files."""
    return params_key([[path.relative_to(root).as_posix(), sha256_of(path)] for path in paths])


def read_stage(folder: Path) -> dict[str, Any]:
    """The manifest of a fitted stage, its files compared with what it says; UserError if it is not whole."""
    if not (folder / FILE).exists():
        raise UserError(f"{folder} has no {FILE}: fit this stage first (or let snakemake do it)")
    manifest = read_json(folder / FILE)
    for name, record in manifest.get("files", {}).items():
        path = folder / name
        if not path.exists() or path.stat().st_size != record["bytes"] or sha256_of(path) != record["sha256"]:
            raise UserError(f"{path} is not the file that its manifest describes: delete {folder} and fit it again")
    return manifest
