"""From a published dataset to its objects on this disk: downloads that resume, checksums, safe unpacking.

An object that cannot be had (not found, damaged, a licence that is not wanted) is an entry of the ledger with its
reason, and the rest goes on; what stops everything (no network, no space) is one sentence.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import write_text
from core.progress import Progress
from data.acquire.archive import BadArchive
from data.acquire.fetch import BadDownload, Fetch
from data.ledger import LEFT_OUT, OK, Entry, as_csv, read_ledger, write_entry
from data.sources import DOWNLOADED, ObjectSpec
from data.sources.listed import checksums, root_of


class Unwanted(Exception):  # noqa: N818 - not an error: an object that the configuration leaves out
    """An object that is there but is not wanted; the message is the reason."""


Get = Callable[[ObjectSpec, str], Entry]
"""One object, and the SHA-256 that its download must have ('' for any), to its entry."""


def acquire(specs: Sequence[ObjectSpec], source: Mapping[str, Any], *, fetch: Fetch, jobs: int = 1) -> dict[str, Entry]:
    """Get the objects of one source that are not here yet; returns the entries of all of them, by name.

    What was left out before is tried again. Raises UserError for what no object can be blamed for.
    """
    if source.get("source") not in DOWNLOADED:
        raise UserError(f"the source {source.get('source')!r} is not downloaded: choose from {', '.join(DOWNLOADED)}")
    root = root_of(source)
    module = importlib.import_module(f"data.acquire.{source['source']}")
    known, listed = read_ledger(root), checksums(source)
    missing = [spec for spec in specs if not _is_here(root, known.get(spec.object))]
    progress = Progress(f"acquire {source['source']}", len(specs), done=len(specs) - len(missing))
    with module.getter(missing, source, fetch) as get:

        def task(spec: ObjectSpec) -> Entry:
            before = known.get(spec.object)
            entry = _attempt(get, spec, listed.get(spec.object) or (before.sha256 if before else ""))
            write_entry(root, entry)
            return entry

        for done, entry in enumerate(_mapped(task, missing, jobs), len(specs) - len(missing) + 1):
            known[entry.object] = entry
            progress.update(done)
    return {spec.object: known[spec.object] for spec in specs}


def acquire_shard(
    specs: Sequence[ObjectSpec], source: Mapping[str, Any], out: str | Path, *, fetch: Fetch, jobs: int = 1
) -> tuple[int, int]:
    """Get the objects of one shard and write their entries to `out` (CSV); returns (objects got, objects left out)."""
    found = acquire(specs, source, fetch=fetch, jobs=jobs)
    write_text(out, as_csv([found[spec.object] for spec in specs]))
    lost = [entry for entry in found.values() if entry.status == LEFT_OUT]
    for entry in lost[:3]:
        print(f"left out {entry.object}: {entry.reason}", file=sys.stderr)
    return len(specs) - len(lost), len(lost)


def _is_here(root: Path, entry: Entry | None) -> bool:
    return entry is not None and entry.status == OK and (root / entry.path).is_file()


def _attempt(get: Get, spec: ObjectSpec, sha256: str) -> Entry:
    try:
        return get(spec, sha256)
    except (BadDownload, BadArchive, Unwanted) as error:
        reason = " ".join(str(error).split())
        # The checksum is kept: what comes next time must still be what came first.
        return Entry(spec.object, LEFT_OUT, sha256=sha256, category=spec.category, reason=reason)


def _mapped(task: Callable[[ObjectSpec], Entry], specs: Sequence[ObjectSpec], jobs: int) -> Iterable[Entry]:
    if jobs <= 1:
        yield from map(task, specs)
        return
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(task, specs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
