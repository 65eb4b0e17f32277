"""Object lists, and what the sources that are downloaded share: `gso`, `omniobject3d`, `objaverse`.

Config mapping: `root` (where `python -m data acquire` puts the objects, in the dataset's own layout), `lists`, and
optionally `hold_out` ({split: n}: that many training objects go there instead, by the hash of their name), `limit`
({split: n}), `max_faces`, `up` (y or z, if the dataset's own is wrong), `url` (a mirror) and, for Objaverse,
`licences`. Every entry of `lists` is `path` (relative to the repository) and optionally `split` and `phase`.

A list is a CSV with the column id and, if there, split, category, licence, attribution, sha256; or a text file or a
JSON array of ids; each may be gzipped. `phase` is the part of a training in two phases that an object is for: an
object of several lists of one split is in the phases of all of them.

Listing reads the lists alone, so that a workflow can be planned before anything is downloaded.
"""

from __future__ import annotations

import csv
import functools
import gzip
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.errors import UserError
from core.identity import ROOT
from data.ledger import LEFT_OUT, NAME, Entry, read_ledger
from data.sources import SPLITS, ObjectSpec

if TYPE_CHECKING:
    from data.load import RawMesh

KEYS = {"source", "root", "lists", "hold_out", "limit", "max_faces", "up", "url", "licences"}
SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class Line(NamedTuple):
    """One line of a list; what the list does not say is an empty string."""

    id: str
    split: str = ""
    category: str = ""
    licence: str = ""
    attribution: str = ""
    sha256: str = ""


def root_of(source: Mapping[str, Any]) -> Path:
    """Where the objects of a source lie; relative paths are relative to the repository."""
    return ROOT / Path(source["root"]).expanduser()


def specs_of(source: Mapping[str, Any], name: str, *, licence: str = "", attribution: str = "") -> list[ObjectSpec]:
    """The objects of the lists, by split, shuffled by the hash of their name. Raises UserError for a wrong list.

    licence, attribution: of every object whose list says nothing else.
    """
    unknown = sorted(set(source) - KEYS)
    if unknown:
        raise UserError(f"the {name} source does not know {unknown[0]!r}: it reads {', '.join(sorted(KEYS))}")
    for key in ("root", "lists"):
        if not source.get(key):
            raise UserError(f"the {name} source lacks the key {key!r}: docs/datasets.md shows one")
    found: dict[str, ObjectSpec] = {}
    for entry in source["lists"]:
        if set(entry) - {"path", "split", "phase"} or "path" not in entry:
            raise UserError(f"an entry of `lists` is path and, if need be, split and phase, not {dict(entry)}")
        for line in read_list(entry["path"]):
            split = entry.get("split") or line.split
            if split == "unused":
                continue
            if split not in SPLITS:
                raise UserError(f"{entry['path']}: {line.id} has no split; give its entry of `lists` a `split`")
            phases = (entry["phase"],) if entry.get("phase") else ()
            old = found.get(line.id)
            if old and old.split != split:
                raise UserError(f"{entry['path']}: {line.id} is in {old.split} and in {split}; an object has one split")
            found[line.id] = ObjectSpec(
                object=line.id,
                split=split,
                category=line.category or (old.category if old else ""),
                source=name,
                licence=line.licence or licence,
                attribution=line.attribution or attribution,
                phases=tuple(dict.fromkeys((*(old.phases if old else ()), *phases))),
            )
    return _chosen(list(found.values()), source, name)


def _chosen(specs: list[ObjectSpec], source: Mapping[str, Any], name: str) -> list[ObjectSpec]:
    hold_out, limit = source.get("hold_out") or {}, source.get("limit") or {}
    wrong = (set(hold_out) | set(limit)) - set(SPLITS)
    if wrong:
        raise UserError(
            f"`hold_out` or `limit` of {name} names the split {sorted(wrong)[0]!r}: use {', '.join(SPLITS)}"
        )
    ranked = sorted(specs, key=lambda spec: sha256(f"{name}/{spec.object}".encode()).digest())
    train = iter([spec.object for spec in ranked if spec.split == "train"])
    moved = {object: split for split, count in hold_out.items() for object in (next(train, "") for _ in range(count))}
    ranked = [replace(s, split=moved[s.object], phases=()) if s.object in moved else s for s in ranked]
    return [spec for split in SPLITS for spec in [s for s in ranked if s.split == split][: limit.get(split)]]


def read_list(path: str | Path) -> list[Line]:
    """The lines of an object list; raises `UserError` for one that is absent, broken, or has ids that are no names."""
    place = ROOT / Path(path).expanduser()
    try:
        raw = place.read_bytes()
        text = (gzip.decompress(raw) if place.suffix == ".gz" else raw).decode("utf-8-sig")
        lines = _lines(text, place.name.removesuffix(".gz"))
    except FileNotFoundError:
        raise UserError(
            f"there is no object list {place}: docs/datasets.md says where lists come from,"
            " and `python -m data list` makes one"
        ) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"the object list {place} cannot be read: {error}") from error
    for line in lines:
        if not SAFE_ID.fullmatch(line.id):
            raise UserError(f"the object list {place} has the id {line.id[:80]!r}: ids are letters, digits, . _ and -")
    return lines


def _lines(text: str, name: str) -> list[Line]:
    if name.endswith(".json"):
        ids = json.loads(text)
        if not isinstance(ids, list | dict):
            raise ValueError("it is not an array of ids")
        return [Line(_bare(str(id))) for id in ids]
    if not name.endswith(".csv"):
        return [Line(_bare(line)) for line in text.split("\n") if line.strip() and not line.startswith("#")]
    rows = csv.DictReader(io.StringIO("".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#"))))
    if "id" not in (rows.fieldnames or ()):
        raise ValueError("it lacks the column id")
    known = Line._fields
    return [Line(**{key: (value or "").strip() for key, value in row.items() if key in known}) for row in rows]


def _bare(id: str) -> str:
    """An id as lists of Objaverse write it, with or without folder and ending."""
    return id.strip().rsplit("/", 1)[-1].removesuffix(".glb")


def checksums(source: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of what is downloaded for an object, where a list says it."""
    return {line.id: line.sha256 for entry in source["lists"] for line in read_list(entry["path"]) if line.sha256}


def _ledger(root: Path) -> dict[str, Entry]:
    place = root / NAME
    return _ledger_as_of(root, place.stat().st_mtime_ns if place.exists() else 0)


@functools.lru_cache(maxsize=4)
def _ledger_as_of(root: Path, time: int) -> dict[str, Entry]:
    return read_ledger(root)  # long to read for a large dataset, and asked for every object


def acquired(specs: Iterable[ObjectSpec], source: Mapping[str, Any]) -> list[ObjectSpec]:
    """The objects with what was learnt when they were acquired: path, licence, attribution and category."""
    ledger = _ledger(root_of(source))
    return [_known(spec, ledger.get(spec.object)) for spec in specs]


def _known(spec: ObjectSpec, entry: Entry | None) -> ObjectSpec:
    if entry is None:
        return spec
    return replace(
        spec,
        path=entry.path or spec.path,
        licence=entry.licence or spec.licence,
        attribution=entry.attribution or spec.attribution,
        category=spec.category or entry.category,
    )


def read(
    spec: ObjectSpec, source: Mapping[str, Any], path: str | None, *, up: str, textures: Sequence[str] = ()
) -> RawMesh:
    """Read the mesh at `path` below the root, turned to +Y up; raises `BadMesh`, with the reason why it is not there.

    up: the axis that points up in the dataset's files. textures: folders relative to the mesh's.
    """
    from data.load import MAX_FACES, BadMesh, read_mesh, turned_up

    root = root_of(source).resolve()
    entry = _ledger(root_of(source)).get(spec.object)
    if entry is not None and entry.status == LEFT_OUT:
        raise BadMesh(entry.reason)
    if path is None or not (root / path).is_file():
        raise BadMesh("it has not been acquired: run `python -m data acquire`")
    place = (root / path).resolve()
    if not place.is_relative_to(root):
        raise BadMesh("the path leaves the folder")
    folders = [place.parent / folder for folder in textures]
    mesh = read_mesh(place, max_faces=source.get("max_faces") or MAX_FACES, textures=folders)
    return turned_up(mesh, source.get("up") or up)
