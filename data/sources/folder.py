"""The folder source: any folder of mesh files, with an optional CSV of splits and categories.

Config mapping: `root`, and optionally `index` (CSV relative to root with columns id, path, split, category and, if
there, licence and attribution), `filter` ({split: {column: [allowed, …]}} over the CSV's columns), `limit`
({split: n}) and `max_faces`. Without an index every mesh file below root is taken, split 80/10/10.

Within a split the objects come in an order shuffled by the hash of their name, so that a limit keeps a fair sample
and a larger limit keeps all that a smaller one kept.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.randomness import seed_of
from data.sources import SPLITS, ObjectSpec

if TYPE_CHECKING:
    from data.load import RawMesh

MESH_SUFFIXES = {".obj", ".ply", ".stl", ".off", ".glb", ".gltf"}  # as data.load.EXTENSIONS, which needs numpy only
REQUIRED = ("id", "path", "split", "category")
KEYS = {"source", "root", "index", "filter", "limit", "max_faces"}


def list_objects(source: Mapping[str, Any]) -> list[ObjectSpec]:
    """The objects of a folder, by split, shuffled by name; raises `UserError` for a wrong mapping or CSV."""
    unknown = set(source) - KEYS
    if unknown:
        raise UserError(
            f"the folder source does not know {', '.join(sorted(unknown))}: it reads {', '.join(sorted(KEYS))}"
        )
    root = Path(source["root"])
    if not root.is_dir():
        raise UserError(f"the mesh folder {root} does not exist: set `root` to a folder of meshes")
    objects = _from_index(root, source) if source.get("index") else _from_files(root)
    if not objects:
        raise UserError(
            f"no object found in {root}: it needs mesh files ({' '.join(sorted(MESH_SUFFIXES))}) or other filters"
        )
    limit = source.get("limit") or {}
    _check_splits(limit, "limit")
    chosen = []
    for split in SPLITS:
        members = sorted((o for o in objects if o.split == split), key=lambda o: (_rank(o.object), o.object))
        chosen += members[: limit.get(split)]
    return chosen


def load(spec: ObjectSpec, source: Mapping[str, Any]) -> RawMesh:
    """Read one object's file; raises `BadMesh`, also where the path leads out of the root folder."""
    from data.load import MAX_FACES, BadMesh, read_mesh

    root = Path(source["root"]).resolve()
    path = (root / (spec.path or "")).resolve()  # follows symbolic links and ..
    if not path.is_relative_to(root):
        raise BadMesh("the path leaves the folder")
    return read_mesh(path, max_faces=source.get("max_faces") or MAX_FACES)


def _rank(name: str) -> int:
    return seed_of("folder", name)


def _check_splits(mapping: Mapping[str, Any], what: str) -> None:
    wrong = set(mapping) - set(SPLITS)
    if wrong:
        raise UserError(f"`{what}` names the split {sorted(wrong)[0]!r}: use {', '.join(SPLITS)}")


def _from_index(root: Path, source: Mapping[str, Any]) -> list[ObjectSpec]:
    index = root / source["index"]
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
            columns = [name.strip() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the index {index}: {error}") from error
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(f"the index {index} lacks the column {missing[0]!r}: it needs {', '.join(REQUIRED)}")
    for number, row in enumerate(rows, start=2):
        if row["split"] not in (*SPLITS, "unused"):
            raise UserError(f"{index}, line {number}: split {row['split']!r} is not one of {', '.join(SPLITS)}, unused")
    rows = _filtered([row for row in rows if row["split"] != "unused"], columns, source.get("filter") or {})
    names = _unique_names((row["id"] or row["path"], row["path"]) for row in rows)
    return [
        ObjectSpec(
            object=name,
            split=row["split"],
            category=row["category"],
            source=row.get("source") or "folder",
            path=row["path"],
            licence=row.get("licence", ""),
            attribution=row.get("attribution", ""),
        )
        for name, row in zip(names, rows, strict=True)
    ]


def _filtered(rows: list[dict[str, str]], columns: list[str], rules: Mapping[str, Any]) -> list[dict[str, str]]:
    _check_splits(rules, "filter")
    for rule in rules.values():
        for column in rule:
            if column not in columns:
                raise UserError(f"`filter` names the column {column!r}, which the index does not have")
    allowed = {
        split: {column: {str(value) for value in values} for column, values in rule.items()}
        for split, rule in rules.items()
    }
    return [row for row in rows if all(row[column] in ok for column, ok in allowed.get(row["split"], {}).items())]


def _from_files(root: Path) -> list[ObjectSpec]:
    """Every mesh file below root; by rank of the name's hash a tenth is test, a tenth val, the rest train."""
    paths = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in MESH_SUFFIXES and not any(p.startswith(".") for p in path.relative_to(root).parts)
    )
    names = _unique_names((str(Path(path).with_suffix("")), path) for path in paths)
    tenth = max(1, round(len(paths) / 10))
    splits = {}
    for position, (name, _) in enumerate(
        sorted(zip(names, paths, strict=True), key=lambda pair: (_rank(pair[0]), pair[0]))
    ):
        splits[name] = "test" if position < tenth else "val" if position < 2 * tenth else "train"
    return [
        ObjectSpec(
            object=name,
            split=splits[name],
            category=Path(path).parent.name,
            source="folder",
            path=path,
        )
        for name, path in zip(names, paths, strict=True)
    ]


def _unique_names(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """File-name-safe names for (name, path) pairs; names that clash get a hash of their path."""
    pairs = list(pairs)
    safe = [re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:80] or "object" for name, _ in pairs]
    counts = Counter(name.lower() for name in safe)  # some file systems ignore case
    names = [
        name if counts[name.lower()] == 1 else f"{name}-{seed_of('path', path) % 16**6:06x}"
        for name, (_, path) in zip(safe, pairs, strict=True)
    ]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UserError(f"the index lists the same id and path twice: {repeated[0]}")
    return names
