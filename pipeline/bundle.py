"""Carrying work to a machine that has nothing but a GPU: one archive with the code, the prepared shards and more.

    benchmark/               the code at HEAD
    benchmark/bundle.json    commit, dataset, scale, and size and SHA-256 of every file that is not code
    benchmark/bundle.yaml    the configuration: snakemake --configfile bundle.yaml …
    benchmark/runs/…         prepared shards, and finished stages if asked for, without what can be made again
    benchmark/meshes/        the list of objects, where the dataset is a folder; if asked for, the meshes, and no shards
    benchmark/lists/         the same, where it is downloaded
    benchmark/wheels/        packages

Raw meshes stay at home, since the shards hold all that is trained on and scored against; or they go instead of the
shards, where these are too large (`pipeline/meshes.py`). `pipeline/results.py` is the way back.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError
from core.files import atomic_path, read_json, sha256_of
from core.identity import ROOT
from pipeline.dag import Dag
from pipeline.meshes import check_alone, mesh_files
from pipeline.objects import lists_of

TOP = "benchmark"
MANIFEST = "bundle.json"
CONFIG = "bundle.yaml"
FEATURES = "features"
"""Folder beside the shards: what frozen encoders make of the images, a cache (`methods/training/features.py`)."""
MODES = {".tar": "w", ".tar.gz": "w:gz", ".tar.xz": "w:xz"}


def pack(
    dag: Dag,
    given: Mapping[str, Any],
    out: Path,
    *,
    limit: float,
    wheels: Path | None,
    stages: bool,
    caches: bool,
    meshes: bool,
    allow_dirty: bool,
) -> dict[str, float]:
    """Write the archive `out`; returns the size of its parts in MB, before compression, and of the `whole`.

    given: the configuration as it was given, without the defaults. limit: MB that the archive may have. stages: take
    finished stages along; caches: with the files that follow from their weights. meshes: take the meshes and not the
    shards, which are prepared there. allow_dirty: pack HEAD though tracked files differ from it; the manifest says so.
    """
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no").strip())
    if dirty and not allow_dirty:
        raise UserError("tracked files differ from HEAD, which is what is packed: commit them, or say --allow-dirty")
    if meshes and stages:
        raise UserError("--stages are of the shards that are here: take those along, or leave --stages out")
    texts, entries = lists_of(dag)
    names: dict[Path, str] = {}
    if meshes:
        check_alone(dag)
        names |= {path: f"{entries[dag.dataset]['root']}/{name}" for path, name in mesh_files(dag).items()}
    parts = {"meshes": list(names)} if meshes else {"shards": _prepared(dag)}
    if stages:
        done = [path.parent for path in Path(dag.root).glob("stages/*/seed*/manifest.json")]
        parts["stages"] = [path for folder in done for path in files_of(folder, caches=caches)]
    names |= {path: path.as_posix() for paths in parts.values() for path in paths if path not in names}
    if wheels is not None:
        parts["wheels"] = _files_below(wheels)
        names |= {path: f"wheels/{path.relative_to(wheels).as_posix()}" for path in parts["wheels"]}
    config = {**given, "scale": dag.scale, "dataset": dag.dataset}
    if entries:
        config["datasets"] = {**config.get("datasets", {}), **entries}
    texts[CONFIG] = yaml.safe_dump(config, sort_keys=False).encode()
    record = {"commit": _git("rev-parse", "HEAD").strip(), "dirty": dirty, "dataset": dag.dataset, "scale": dag.scale}
    if not meshes:
        record["data_hash"] = read_json(Path(dag.prepared) / "manifest.json")["data_hash"]
    record["files"] = {name: describe(path) for path, name in names.items()}
    record["files"] |= {name: _described(text) for name, text in texts.items()}
    texts[MANIFEST] = json.dumps(record, indent=1).encode()

    code = _git("archive", "--format=tar", "HEAD", raw=True)
    sizes = {"code": len(code) / 1e6}
    sizes |= {part: sum(path.stat().st_size for path in paths) / 1e6 for part, paths in parts.items()}
    with atomic_path(out) as temporary:
        with tarfile.open(temporary, _mode(out)) as archive, tarfile.open(fileobj=io.BytesIO(code)) as source:
            for member in source:
                content = source.extractfile(member) if member.isfile() else None
                member.name = f"{TOP}/{member.name}"
                archive.addfile(member, content)
            for name, text in texts.items():
                _add_text(archive, f"{TOP}/{name}", text)
            for path, name in names.items():
                archive.add(path, f"{TOP}/{name}", recursive=False)
        sizes["whole"] = temporary.stat().st_size / 1e6
        if sizes["whole"] > limit:
            listed = ", ".join(f"{part} {size:.1f}" for part, size in sizes.items() if part != "whole")
            raise UserError(
                f"the bundle has {sizes['whole']:.1f} MB and the limit is {limit:g} MB ({listed} before compression): "
                "take the --meshes instead of shards, leave wheels or stages out, prepare fewer objects or views, or"
                " raise --limit"
            )
    return sizes


def _prepared(dag: Dag) -> list[Path]:
    """The prepared shards and what describes them. Raises UserError if one is missing."""
    missing = [path for path in (*dag.shards(None), f"{dag.prepared}/manifest.json") if not Path(path).is_file()]
    if missing:
        raise UserError(f"there is no {missing[0]}: prepare the data first (snakemake … -- describe)")
    return [path for path in _files_below(Path(dag.prepared)) if path.relative_to(dag.prepared).parts[0] != FEATURES]


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a bundle below `folder`, which it must not be in yet, and compare every file with its hash."""
    place = folder / TOP
    if place.exists():
        raise UserError(f"{place} is there already: name another folder with --into")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        extract(path, Path(temporary))
        verify(Path(temporary) / TOP, MANIFEST)
        shutil.move(Path(temporary) / TOP, place)
    return place


def extract(path: Path, folder: Path) -> None:
    """Unpack an archive into a folder; nothing can land outside it."""
    try:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f"{path} cannot be unpacked ({error}): copy it again") from error


def verify(folder: Path, manifest: str) -> dict[str, Any]:
    """The manifest of an unpacked archive; UserError if a file is not the one that it describes."""
    if not (folder / manifest).is_file():
        raise UserError(f"{folder} holds no {manifest}: this is another kind of archive")
    record = read_json(folder / manifest)
    for name, expected in record["files"].items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file() or describe(path) != expected:
            raise UserError(f"{name} is not the file that {manifest} describes: copy the archive again")
    return record


def describe(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def files_of(folder: Path, *, caches: bool = False) -> list[Path]:
    """The files of a finished result: without unfinished work and what is being written.

    caches: with the files that its manifest calls so, which can be made again.
    """
    manifest = folder / "manifest.json"
    but = {"resume"} if caches or not manifest.is_file() else {"resume", *read_json(manifest).get("caches", ())}
    return [path for path in _files_below(folder) if but.isdisjoint(path.relative_to(folder).parts)]


def _files_below(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _described(text: bytes) -> dict[str, Any]:
    return {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}


def _add_text(archive: tarfile.TarFile, name: str, text: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(text), 0o644
    archive.addfile(member, io.BytesIO(text))


def _mode(out: Path) -> str:
    suffix = next((suffix for suffix in sorted(MODES, reverse=True) if out.name.endswith(suffix)), None)
    if suffix is None:
        raise UserError(f"{out.name} names no archive that is known here: end it with {', '.join(MODES)}")
    return MODES[suffix]


def write(out: Path, manifest: str, record: Mapping[str, Any], files: Mapping[Path, str]) -> float:
    """Write an archive of files and the manifest that describes them; returns its size in MB."""
    with atomic_path(out) as temporary:
        with tarfile.open(temporary, _mode(out)) as archive:
            _add_text(archive, manifest, json.dumps(record, indent=1).encode())
            for path, name in files.items():
                archive.add(path, name, recursive=False)
        return temporary.stat().st_size / 1e6


def _git(*arguments: str, raw: bool = False) -> Any:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"a bundle holds the code that git knows, and `git {arguments[0]}` failed in {ROOT}") from error
    return done.stdout if raw else done.stdout.decode()
