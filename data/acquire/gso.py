"""Google Scanned Objects from Gazebo Fuel: one zip a model, `meshes/model.obj`, `materials/textures/texture.png`.

Fuel's REST interface: `{api}/models?q=collections:…` lists a collection in pages, `{api}/{owner}/models/{name}.zip` is
a model. The archive is deleted when its mesh, materials, texture and metadata have been taken out of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from data.acquire.archive import BadArchive, unpack
from data.acquire.fetch import BadDownload, Fetch, space
from data.ledger import OK, Entry
from data.sources import ObjectSpec
from data.sources.gso import ATTRIBUTION, LICENCE, path_of
from data.sources.listed import root_of

if TYPE_CHECKING:
    from data.acquire import Get

API = "https://fuel.gazebosim.org/1.0"
OWNER = "GoogleResearch"
COLLECTION = "Scanned Objects by Google Research"
PER_PAGE = 100
MOST_PAGES = 100
WANTED = ("meshes/model.obj", "meshes/model.mtl", "materials/textures/texture.png", "metadata.pbtxt")


@contextlib.contextmanager
def getter(missing: Sequence[ObjectSpec], source: Mapping[str, Any], fetch: Fetch) -> Iterator[Get]:
    """How one model is got: what is unpacked below the root already is taken as it is."""
    root, api = root_of(source), source.get("url") or API

    def get(spec: ObjectSpec, sha256: str) -> Entry:
        folder = root / spec.object
        if not (root / path_of(spec.object)).is_file():
            archive = root / "archives" / f"{spec.object}.zip"
            sha256 = fetch.file(f"{api}/{OWNER}/models/{quote(spec.object)}.zip", archive, sha256=sha256)
            try:
                _unpacked(archive, folder)
            finally:
                archive.unlink()  # a bad one is got anew the next time
        return Entry(
            spec.object,
            OK,
            path=path_of(spec.object),
            bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            sha256=sha256,
            category=spec.category or category_in(folder),
            licence=LICENCE,
            attribution=ATTRIBUTION,
        )

    yield get


def _unpacked(archive: Path, folder: Path) -> None:
    """The wanted files of a model's archive, in a folder that appears whole."""
    new = folder.with_name(f".{folder.name}.{os.getpid()}")

    def choose(member: PurePosixPath) -> Path | None:
        parts = member.parts[1:] if member.parts[0] == folder.name else member.parts
        return new.joinpath(*parts) if "/".join(parts) in WANTED else None

    try:
        with space(folder.parent):
            found = unpack(archive, choose)
        if new / WANTED[0] not in found:
            raise BadArchive(f"{archive.name} has no {WANTED[0]}")
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def category_in(folder: Path) -> str:
    """The category that Google's metadata give, or an empty string."""
    try:
        text = (folder / "metadata.pbtxt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r'categories\s*\{\s*first:\s*"([^"]*)"', text)
    return found[1].strip() if found else ""


def catalogue(source: Mapping[str, Any], fetch: Fetch) -> list[str]:
    """The names of all models of the collection, as Fuel lists them now; BadDownload for an answer that is no list."""
    api, names = source.get("url") or API, []
    folder = root_of(source) / "archives"
    for page in range(1, MOST_PAGES + 1):
        url = f"{api}/models?page={page}&per_page={PER_PAGE}&q=collections:{quote(COLLECTION)}"
        place = folder / "page.json"
        place.unlink(missing_ok=True)
        try:
            found = json.loads(fetch.text(url, place))
            models = [model["name"] for model in found if model["owner"] == OWNER]
        except BadDownload:
            if page > 1:  # beyond the last page some versions of Fuel answer 404
                break
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise BadDownload(f"{url} is not a list of models ({error!r})") from error
        finally:
            place.unlink(missing_ok=True)
        if not found:
            break
        names += models
    return sorted(set(names))
