"""OmniObject3D's raw scans: an archive a category, `{category}/{object}/Scan/Scan.obj`, `.mtl`, `.jpg`.

The dataset wants a registration, so nobody can download it for you: put the archives (`{category}.tar.gz`, `.tar` or
`.zip`) into `{root}/archives`, or the unpacked tree into `{root}/raw_scans`; or set `url` to a place of your own that
serves the archives. Archives are kept: each holds many objects.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from core.errors import UserError
from core.files import sha256_of
from data.acquire.archive import BadArchive, unpack
from data.acquire.fetch import BadDownload, Fetch, space
from data.ledger import OK, Entry
from data.sources import ObjectSpec
from data.sources.listed import root_of
from data.sources.omniobject3d import ATTRIBUTION, LICENCE, category_of, path_of

if TYPE_CHECKING:
    from data.acquire import Get

ENDINGS = (".tar.gz", ".tar", ".zip")
WANTED = ("Scan.obj", "Scan.mtl", "Scan.jpg")
MOST_BYTES = 200 << 30  # of a category's archive, unpacked
MOST_MEMBERS = 1_000_000


@contextlib.contextmanager
def getter(missing: Sequence[ObjectSpec], source: Mapping[str, Any], fetch: Fetch) -> Iterator[Get]:
    """How one scan is got; the archive of its category is read once for all objects that are missing."""
    root = root_of(source)
    wanted: dict[str, set[str]] = {}
    for spec in missing:
        if not (root / path_of(spec.object)).is_file():
            wanted.setdefault(category_of(spec.object), set()).add(spec.object)
    read: dict[str, str | Exception] = {}  # category -> checksum of its archive, or what is wrong with it
    lock = Lock()

    def checksum_of(category: str, sha256: str) -> str:
        with lock:
            if category not in read:
                try:
                    read[category] = _unpacked(root, category, wanted[category], source, fetch, sha256)
                except (BadArchive, BadDownload) as error:
                    read[category] = error
        found = read[category]
        if isinstance(found, Exception):
            raise found
        return found

    def get(spec: ObjectSpec, sha256: str) -> Entry:
        mesh, category = root / path_of(spec.object), category_of(spec.object)
        if not mesh.is_file():
            sha256 = checksum_of(category, sha256)
        if not mesh.is_file():
            raise BadArchive(f"the archive of {category} has no {spec.object}/Scan/{WANTED[0]}")
        size = sum(path.stat().st_size for path in mesh.parent.iterdir() if path.is_file())
        about = {"category": spec.category or category, "licence": LICENCE, "attribution": ATTRIBUTION}
        return Entry(spec.object, OK, path=path_of(spec.object), bytes=size, sha256=sha256, **about)

    yield get


def _unpacked(
    root: Path, category: str, objects: set[str], source: Mapping[str, Any], fetch: Fetch, sha256: str
) -> str:
    """Unpack the wanted scans of a category; returns the checksum of its archive."""
    archives = root / "archives"
    archive = next((path for path in (archives / f"{category}{end}" for end in ENDINGS) if path.is_file()), None)
    if archive is None and source.get("url"):
        archive = archives / f"{category}{ENDINGS[0]}"
        found = fetch.file(f"{source['url'].rstrip('/')}/{quote(archive.name)}", archive, sha256=sha256)
    elif archive is None:
        raise UserError(
            f"OmniObject3D wants a registration: download raw_scans/{category}.tar.gz as docs/datasets.md says, put it"
            f" into {archives}, and run this again"
        )
    else:
        found = sha256_of(archive)
        if sha256 and found != sha256:
            raise BadArchive(f"wrong checksum: SHA-256 of {archive} is {found[:16]}…, not {sha256[:16]}…")
    new = root / f".{category}.{os.getpid()}"

    def choose(member: PurePosixPath) -> Path | None:
        known = len(member.parts) >= 3 and member.parts[-3] in objects
        return (
            new.joinpath(*member.parts[-3:])
            if known and member.parts[-2:-1] == ("Scan",) and (member.name in WANTED)
            else None
        )

    try:
        with space(root):
            unpack(archive, choose, most_bytes=MOST_BYTES, most_members=MOST_MEMBERS)
        for folder in sorted(new.iterdir()) if new.exists() else []:
            place = (root / path_of(folder.name)).parent.parent
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return found


def catalogue(source: Mapping[str, Any], fetch: Fetch) -> list[str]:
    """The names of the scans that are unpacked below the root, and of those in its archives.

    Raises BadArchive for one that is damaged: a list without its scans would be another list.
    """
    root, names = root_of(source), set()
    for mesh in root.glob("raw_scans/*/*/Scan/Scan.obj"):
        names.add(mesh.parts[-3])

    def note(member: PurePosixPath) -> None:
        if member.parts[-2:] == ("Scan", "Scan.obj") and len(member.parts) >= 3:
            names.add(member.parts[-3])

    for archive in sorted((root / "archives").glob("*")):
        if archive.name.endswith(ENDINGS):
            unpack(archive, note, most_bytes=MOST_BYTES, most_members=MOST_MEMBERS)
    return sorted(names)
