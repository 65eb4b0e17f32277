"""Objaverse 1.0: the `objaverse` package knows where objects are and under which licence; the files come as all others.

The package keeps its tables below a folder and fetches what it does not find there. Here they are fetched first, so
that they resume, are verified and may come from a mirror (`url`), and the package reads them from the disk.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import write_text
from data.acquire.fetch import BadDownload, Fetch
from data.ledger import OK, Entry
from data.sources import ObjectSpec
from data.sources.listed import root_of
from data.sources.objaverse import LICENCES

if TYPE_CHECKING:
    from data.acquire import Get

URL = "https://huggingface.co/datasets/allenai/objaverse/resolve/main"
HOME = "hf-objaverse-v1"
PATHS = "object-paths.json.gz"
PATH = re.compile(r"glbs/[0-9A-Za-z-]+/[0-9A-Za-z]+\.glb")
SPDX = {"cc0": "CC0-1.0"} | {
    name: f"CC-{name.upper()}-4.0" for name in ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd")
}


@dataclass(frozen=True)
class About:
    """What Objaverse says of one object. `licence`: as Sketchfab writes it, for example `by-nc`."""

    uid: str
    licence: str
    category: str
    attribution: str


@contextlib.contextmanager
def getter(missing: Sequence[ObjectSpec], source: Mapping[str, Any], fetch: Fetch) -> Iterator[Get]:
    """How one model is got: its licence is looked at first, what is not wanted is not downloaded."""
    from data.acquire import Unwanted

    root, url = root_of(source), source.get("url") or URL
    allowed = tuple(source.get("licences") or LICENCES)
    paths = _paths(root / HOME, url, fetch) if missing else {}
    folders = {_folder(paths[spec.object]) for spec in missing if spec.object in paths}
    about = {uid: known for folder in sorted(folders) for uid, known in _about(folder, paths, root / HOME, url, fetch)}

    def get(spec: ObjectSpec, sha256: str) -> Entry:
        if spec.object not in about:
            raise BadDownload("Objaverse has no object of this uid")
        known = about[spec.object]
        if known.licence not in allowed:
            raise Unwanted(f"its licence, {known.licence}, is not one of {', '.join(allowed)}")
        place = root / HOME / paths[spec.object]
        return Entry(
            spec.object,
            OK,
            sha256=fetch.file(f"{url}/{paths[spec.object]}", place, sha256=sha256),
            path=f"{HOME}/{paths[spec.object]}",
            bytes=place.stat().st_size,
            category=spec.category or known.category,
            licence=SPDX.get(known.licence, known.licence),
            attribution=known.attribution,
        )

    yield get


def _paths(home: Path, url: str, fetch: Fetch) -> dict[str, str]:
    """Where every object is below `HOME`."""
    fetch.file(f"{url}/{PATHS}", home / PATHS)
    with _tables(home):
        with gzip.open(home / PATHS, "rb") as file:
            paths = json.load(file)
        for uid, path in paths.items():
            if not PATH.fullmatch(path):
                raise ValueError(f"{uid} lies at {path!r}")
        return paths


def _about(folder: str, paths: Mapping[str, str], home: Path, url: str, fetch: Fetch) -> Iterator[tuple[str, About]]:
    """What the package says of the objects of one folder; kept in short, since its own tables are long to read."""
    short = home / "metadata" / f"{folder}.csv"
    if not short.exists():
        fetch.file(f"{url}/metadata/{folder}.json.gz", home / "metadata" / f"{folder}.json.gz")
        with _tables(home):
            found = _package(home).load_annotations([uid for uid, path in paths.items() if _folder(path) == folder])
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(astuple(_in_short(uid, found[uid])) for uid in sorted(found))
        write_text(short, buffer.getvalue())
    with short.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            yield row[0], About(*row)


def _in_short(uid: str, annotation: Mapping[str, Any]) -> About:
    user, categories = annotation.get("user") or {}, annotation.get("categories") or ()
    author = user.get("displayName") or user.get("username") or "unknown"
    return About(
        uid,
        licence=str(annotation.get("license") or "none"),
        category=next((str(category.get("name") or "") for category in categories), ""),
        attribution=f"{annotation.get('name') or uid} by {author}, {annotation.get('viewerUrl') or 'sketchfab.com'}",
    )


def _folder(path: str) -> str:
    return path.split("/")[1]


@contextlib.contextmanager
def _tables(home: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, AttributeError, zlib.error) as error:
        raise UserError(f"Objaverse's tables in {home} are damaged ({error}): delete its *.json.gz") from error


def _package(home: Path):
    """The `objaverse` package, looking into our folder instead of the user's home."""
    try:
        import objaverse
    except ImportError as error:
        raise UserError("the package `objaverse` is missing: install this project's extra `datasets`") from error
    objaverse._VERSIONED_PATH = str(home)  # its only handle; tests hold it to that
    return objaverse


def catalogue(source: Mapping[str, Any], fetch: Fetch) -> list[str]:
    """All uids."""
    root, url = root_of(source), source.get("url") or URL
    fetch.file(f"{url}/{PATHS}", root / HOME / PATHS)
    return sorted(_package(root / HOME).load_uids())
