"""The commands `python -m data acquire|list|datasets`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import write_text
from core.progress import Progress
from data import catalogue
from data.ledger import LEFT_OUT, NAME, read_ledger
from data.prepare import reason_of, shard_specs
from data.sources import DOWNLOADED, ObjectSpec, acquired, list_objects, load
from data.sources.listed import root_of

JOB = ("source", "split", "shard", "shard_size", "out")
ACQUIRE = """\
Download the objects of a published dataset, or take them from archives that are here, and verify them.

  python -m data acquire gso --list data/lists/gso_test.csv --root runs/raw/gso
  python -m data acquire gso --all --root runs/raw/gso --jobs 4
  python -m data acquire omniobject3d --all --root path/to/omniobject3d
  python -m data acquire objaverse --list uids.txt --licences cc0 by by-sa --root runs/raw/objaverse --jobs 8

A run that was stopped goes on where it was, also within a file. The SHA-256 of what was downloaded first is kept in
acquired.csv below the root, and every later download must have it. An object that cannot be had is left out, with its
reason there. docs/datasets.md says what each dataset needs.
"""
LIST = """\
Make the list of test objects: those that are not too simple (data/choose.py), then that many by a seeded hash.

  python -m data list gso --root runs/raw/gso --out data/lists/gso_test.csv
  python -m data list gso --meshes folder --out list.csv       meshes of that dataset in a plain folder

Beside the list, NAME.measures.csv says of every object how simple it is and why it was left out.
"""


def add_commands(commands: Any) -> None:
    """Add the commands to the front door's parser."""
    raw = argparse.RawDescriptionHelpFormatter
    acquire = commands.add_parser(
        "acquire", help="download a published dataset", description=ACQUIRE, formatter_class=raw
    )
    acquire.add_argument("dataset", nargs="?", choices=DOWNLOADED)
    add_source_options(acquire)
    acquire.add_argument("--all", action="store_true", help="every object of the dataset instead of a list")
    acquire.add_argument("--jobs", type=int, default=1, metavar="N", help="downloads side by side (default: 1)")
    acquire.add_argument("--job", metavar="JSON", help=f"one shard, for the workflow: JSON with {', '.join(JOB)}")
    acquire.set_defaults(run=_acquire)

    choose = commands.add_parser("list", help="make a list of test objects", description=LIST, formatter_class=raw)
    choose.add_argument("dataset", choices=DOWNLOADED)
    choose.add_argument("--root", metavar="DIR", help="where the dataset was acquired")
    choose.add_argument("--meshes", metavar="DIR", help="or a folder of its meshes, named by object, with +Y up")
    choose.add_argument("--count", type=int, default=100, metavar="N", help="objects of the list (default: 100)")
    choose.add_argument("--seed", type=int, default=0, metavar="N", help="of the hash (default: 0)")
    choose.add_argument("--note", action="append", default=[], metavar="TEXT", help="a line of provenance for the list")
    choose.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    choose.add_argument("--out", type=Path, required=True, metavar="CSV")
    choose.set_defaults(run=_list)

    datasets = commands.add_parser("datasets", help="the published datasets: licence and citation of each")
    datasets.set_defaults(run=_datasets)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The options that make the mapping of a downloaded source."""
    parser.add_argument("--root", metavar="DIR", help="where its objects are (or will be)")
    parser.add_argument("--list", action="append", default=[], metavar="FILE", help="object list; may be repeated")
    parser.add_argument("--url", help="a mirror of the dataset")
    parser.add_argument(
        "--licences", nargs="+", metavar="NAME", help="objaverse: those to keep (default: cc0 by by-sa)"
    )


def source_of(options: argparse.Namespace, dataset: str) -> dict[str, Any]:
    """The mapping of a downloaded source, from the command line; paths are relative to where the command is run."""
    if not options.root:
        raise UserError("say where the objects are: --root DIR")
    if not options.list and not getattr(options, "all", False):
        raise UserError("say which objects: --list FILE")
    lists = [{"path": str(Path(path).resolve())} for path in options.list]
    lists = [entry | _split_if_none(entry["path"]) for entry in lists]
    source = {"source": dataset, "root": str(Path(options.root).resolve()), "lists": lists}
    return source | {key: getattr(options, key) for key in ("url", "licences") if getattr(options, key)}


def _split_if_none(path: str) -> dict[str, str]:
    """A list that names no splits is of objects to train on."""
    from data.sources.listed import read_list

    return {} if any(line.split for line in read_list(path)) else {"split": "train"}


def _acquire(options: argparse.Namespace) -> int:
    from data.acquire import acquire, acquire_shard
    from data.acquire.fetch import Fetch

    if options.job:
        job = json.loads(options.job)
        missing = [name for name in JOB if name not in job]
        if missing:
            raise UserError(f"--job lacks {', '.join(missing)}")
        specs = shard_specs(list_objects(job["source"]), job["split"], job["shard"], job["shard_size"])
        kept, lost = acquire_shard(specs, job["source"], job["out"], fetch=Fetch(), jobs=options.jobs)
        print(f"{job['out']}: {kept} objects here, {lost} left out")
        return 0
    if not options.dataset:
        raise UserError(f"say which dataset: {', '.join(DOWNLOADED)}")
    source = source_of(options, options.dataset)
    print(catalogue.describe(options.dataset))
    specs = _everything(source) if options.all else list_objects(source)
    entries = acquire(specs, source, fetch=Fetch(), jobs=options.jobs).values()
    lost = [entry for entry in entries if entry.status == LEFT_OUT]
    size = sum(entry.bytes for entry in entries) / 1e9
    print(f"{len(entries) - len(lost)} of {len(entries)} objects are in {source['root']}, {size:.3g} GB")
    for reason, count in Counter(entry.reason for entry in lost).most_common(5):
        print(f"  left out {count}: {reason}")
    if lost:
        print(f"  all reasons: {Path(source['root']) / NAME}")
    return 0 if len(lost) < len(entries) or not entries else 1


def _everything(source: Mapping[str, Any]) -> list[ObjectSpec]:
    import importlib

    from data.acquire.archive import BadArchive
    from data.acquire.fetch import BadDownload, Fetch

    name = source["source"]
    try:
        names = importlib.import_module(f"data.acquire.{name}").catalogue(source, Fetch())
    except BadDownload as error:
        raise UserError(f"the dataset cannot be listed: {error}") from error
    except BadArchive as error:
        raise UserError(f"the dataset cannot be listed: {error}; get it again, or take it out of there") from error
    if not names:
        raise UserError(f"no object of {name} was found in {root_of(source)}: docs/datasets.md says what to put there")
    return [ObjectSpec(object, "train", "", name) for object in names]


def _list(options: argparse.Namespace) -> int:
    from data.choose import as_list, chosen

    if bool(options.root) == bool(options.meshes):
        raise UserError("say where the meshes are: either --root or --meshes")
    if options.meshes:
        folder = Path(options.meshes).resolve()
        source: dict[str, Any] = {"source": "folder", "root": str(folder)}
        source |= {"index": "index.csv"} if (folder / "index.csv").is_file() else {}
        specs = list_objects(source)
    else:
        source = {"source": options.dataset, "root": str(Path(options.root).resolve()), "lists": []}
        known = read_ledger(root_of(source))
        specs = [
            ObjectSpec(e.object, "test", e.category, options.dataset) for e in known.values() if e.status != LEFT_OUT
        ]
        specs = acquired(specs, source)
    if not specs:
        raise UserError("there is no object to choose from: run `python -m data acquire` first")
    specs = sorted(specs, key=lambda spec: spec.object)
    measures = _measured(specs, source, options.jobs)
    reasons = {name: reason for name, (_, reason) in measures.items()}
    names = chosen(reasons, options.count, dataset=options.dataset, seed=options.seed)
    simple = sum(bool(reason) for reason in reasons.values())
    about = [
        f"Test objects of {options.dataset}: {len(names)} by a hash of seed {options.seed}, of {len(specs)} candidates,"
        f" {simple} of them too simple or unreadable.",
        "Made by `python -m data list`, by the rule of data/choose.py; the measures stand beside.",
        *options.note,
    ]
    write_text(options.out, as_list(names, {spec.object: spec.category for spec in specs}, about))
    write_text(options.out.with_suffix(".measures.csv"), _measures_csv(measures))
    print(f"{options.out}: {len(names)} of {len(specs)} objects; {simple} are too simple or unreadable")
    if len(names) < options.count:
        print(f"  that is fewer than {options.count}", file=sys.stderr)
    return 0


Measures = dict[str, tuple[dict[str, float], str]]
"""Object -> what was measured of it, and why it cannot be in the list ('' if it can)."""


def _measured(specs: Sequence[ObjectSpec], source: Mapping[str, Any], jobs: int) -> Measures:
    progress, found = Progress("measure", len(specs)), {}
    tasks = [(spec, source) for spec in specs]
    with ProcessPoolExecutor(jobs) if jobs > 1 else _Here() as pool:
        for done, (spec, measure) in enumerate(zip(specs, pool.map(_measure, tasks), strict=True), 1):
            found[spec.object] = measure
            progress.update(done)
    return found


class _Here:
    """A pool of no processes."""

    map = staticmethod(map)

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *_: object) -> None: ...


def _measure(task: tuple[ObjectSpec, Mapping[str, Any]]) -> tuple[dict[str, float], str]:
    from data.choose import simplicity

    spec, source = task
    try:
        found = simplicity(load(spec, source), spec.object)
    except MemoryError:
        raise
    except Exception as error:  # a hostile mesh may provoke anything; it cannot test a generator
        return {}, f"unreadable: {reason_of(error)}"
    return asdict(found), found.reason()


def _measures_csv(measures: Measures) -> str:
    buffer = io.StringIO()
    columns = ("fill", "boxlike", "ball", "cylinder")
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(("id", *columns, "left_out"))
    for name, (found, reason) in measures.items():
        table.writerow((name, *(f"{found[key]:.4f}" if key in found else "" for key in columns), reason))
    return buffer.getvalue()


def _datasets(options: argparse.Namespace) -> int:
    print("\n\n".join(catalogue.describe(name) for name in catalogue.datasets()))
    return 0
