"""The front door of the room: `python -m data acquire|list|datasets|prepare|quarantine|preview|images|info --help`."""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from core.errors import UserError, run_cli
from data.acquire.command import add_commands, add_source_options, source_of
from data.prepare import DEFAULTS, already_prepared, check_params, prepare_shard, shard_count, shard_path, shard_specs
from data.sources import DOWNLOADED, SPLITS, list_objects

JOB = ("dataset", "source", "params", "split", "shard", "shard_size", "out")
PREPARE = """\
Prepare a dataset: watertight solids, surface points, occupancy and condition images, in shards.

  python -m data prepare --source procedural --train 100 --val 10 --test 10 --out runs/try/prepared
  python -m data prepare --source path/to/meshes --out runs/mine/prepared --jobs 2
  python -m data prepare --source path/to/meshes --index index.csv --train 200 --set points=2048 image_size=64 --out …
  python -m data prepare --source gso --root runs/raw/gso --list data/lists/gso_test.csv --set shading=texture --out …

The first makes objects from seeds; the last takes what `python -m data acquire` has brought; the others read .obj .ply
.stl .off .glb .gltf files, split by the CSV (columns id, path, split, category) or, without one, 80/10/10 by the hash
of their names. Shards that exist are kept, so a run that was stopped goes on where it was. Objects that cannot be used
are left out, each with its reason in a quarantine.csv; the run says how many.

parameters for --set, and what holds without it:
"""


def main(arguments: list[str] | None = None) -> int:
    """Parse and run one command."""
    parser = argparse.ArgumentParser(prog="python -m data", description="Raw meshes in, prepared shards out.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_commands(commands)
    for add in (_add_prepare, _add_quarantine, _add_preview, _add_images, _add_info):
        add(commands)
    options = parser.parse_args(arguments)
    return options.run(options)


def _add_prepare(commands: argparse._SubParsersAction) -> None:
    known = "\n".join(f"  {name:14s}{json.dumps(value)}" for name, value in DEFAULTS.items())
    raw = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "prepare", help="prepare a dataset, or one shard of it", description=PREPARE + known, formatter_class=raw
    )
    command.add_argument(
        "--source",
        default="procedural",
        help=f"`procedural`, a folder of meshes, or {', '.join(DOWNLOADED)} (default: procedural)",
    )
    add_source_options(command)
    command.add_argument("--index", help="CSV of splits and categories, relative to the folder")
    for split, count in zip(SPLITS, (100, 10, 10), strict=True):
        command.add_argument(
            f"--{split}", type=int, metavar="N", help=f"objects of {split} (default: {count}, or all of a folder)"
        )
    command.add_argument("--out", type=Path, metavar="DIR", help="folder to write to")
    command.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters, values as JSON")
    command.add_argument("--shard-size", type=int, default=256, metavar="N", help="objects in a shard (default: 256)")
    command.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    job_help = f"one shard, for the workflow: JSON text or file with {', '.join(JOB)}"
    command.add_argument("--job", metavar="JSON", help=job_help)
    command.set_defaults(run=_prepare)


def _add_quarantine(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("quarantine", help="join the lists of objects left out, and describe the dataset")
    command.add_argument("--prepared", type=Path, required=True, metavar="DIR", help="a prepared dataset")
    command.add_argument("--out", type=Path, required=True, metavar="CSV", help="one line for each object left out")
    command.add_argument(
        "--manifest", type=Path, metavar="JSON", help="counts, parameters, data hash (default: manifest.json beside)"
    )
    command.set_defaults(run=_quarantine)


def _add_preview(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("preview", help="a contact sheet (PNG) of objects and views")
    command.add_argument("--prepared", type=Path, required=True, metavar="DIR", help="a prepared dataset")
    command.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    command.add_argument("--out", type=Path, required=True, metavar="PNG")
    command.add_argument("--objects", type=int, default=24, metavar="N", help="default: 24, spread over the split")
    command.add_argument("--views", type=int, default=6, metavar="N", help="default: 6, spread over the views")
    command.set_defaults(run=_preview)


def _add_images(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("images", help="condition images as PNG files, for systems outside of this project")
    command.add_argument("--prepared", type=Path, required=True, metavar="DIR", help="a prepared dataset")
    command.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for NAME.png and views.csv")
    command.add_argument("--views", type=int, default=1, metavar="N", help="evaluation views per object (default: 1)")
    command.add_argument("--size", type=int, metavar="N", help="pixels a side, rendered anew (default: as stored)")
    command.add_argument("--white", action="store_true", help="RGB on white (default: RGBA)")
    command.set_defaults(run=_images)


def _add_info(commands: argparse._SubParsersAction) -> None:
    command = commands.add_parser("info", help="what a prepared dataset holds")
    command.add_argument("--prepared", type=Path, required=True, metavar="DIR", help="a prepared dataset")
    command.set_defaults(run=_info)


def _json(text: str, what: str) -> Any:
    """JSON from the command line, or from a file named there."""
    try:
        return json.loads(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{what} is neither JSON nor a JSON file: {error}") from error


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set wants NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _prepare(options: argparse.Namespace) -> int:
    if options.job:
        job = _json(options.job, "--job")
        missing = [name for name in JOB if name not in job]
        if missing:
            raise UserError(f"--job lacks {', '.join(missing)}")
        specs = shard_specs(list_objects(job["source"]), job["split"], job["shard"], job["shard_size"])
        out = shard_path(job["out"], job["split"], job["shard"])
        prepare_shard(specs, job["source"], job["params"], out, dataset=job["dataset"])
        return 0
    if options.out is None:
        raise UserError("say where to write: --out DIR")
    params = check_params(dict(_setting(text) for text in options.set))
    counts = {split: getattr(options, split) for split in SPLITS}
    if options.source == "procedural":
        counts = {
            split: default if counts[split] is None else counts[split]
            for split, default in zip(SPLITS, (100, 10, 10), strict=True)
        }
        dataset, source = "procedural", {"source": "procedural", "counts": counts}
    elif options.source in DOWNLOADED:
        dataset, source = options.source, source_of(options, options.source)
        source["limit"] = {s: n for s, n in counts.items() if n is not None}
    else:
        dataset = Path(options.source).resolve().name
        source = {
            "source": "folder",
            "root": options.source,
            "limit": {s: n for s, n in counts.items() if n is not None},
        }
        source |= {"index": options.index} if options.index else {}
    return _prepare_all(dataset, source, params, options)


def _prepare_all(dataset: str, source: dict[str, Any], params: dict[str, Any], options: argparse.Namespace) -> int:
    """Prepare the missing shards of all splits, then join their quarantine files."""
    all_specs = list_objects(source)
    tasks = []
    for split in SPLITS:
        count = shard_count(all_specs, split, options.shard_size)
        extra = shard_path(options.out, split, count)
        if extra.exists():
            raise UserError(f"{extra} is left from a larger dataset: choose another folder or delete it")
        for shard in range(count):
            specs, path = (
                shard_specs(all_specs, split, shard, options.shard_size),
                shard_path(options.out, split, shard),
            )
            if not already_prepared(path, specs, params):
                tasks.append((specs, source, params, path, dataset))
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as pool:
            list(pool.map(_prepare_task, tasks))
    else:
        for task in tasks:
            _prepare_task(task)
    return _describe(options.out, options.out / "quarantine.csv", options.out / "manifest.json")


def _prepare_task(task: tuple[Any, ...]) -> None:
    *positional, dataset = task
    prepare_shard(*positional, dataset=dataset)


def _describe(prepared: Path, out: Path, manifest: Path) -> int:
    from data.quarantine import collect

    summary = collect(prepared, out, manifest)
    for split, entry in summary["splits"].items():
        total = entry["objects"] + entry["left_out"]
        size = f"{entry['objects']} objects in {entry['shards']} shard(s), {entry['bytes'] / 1e6:.1f} MB"
        left_out = f"{entry['left_out']} of {total} left out, see {out}" if entry["left_out"] else "none left out"
        print(f"{split}: {size}; {left_out}")
    return 0


def _quarantine(options: argparse.Namespace) -> int:
    return _describe(options.prepared, options.out, options.manifest or options.out.with_name("manifest.json"))


def _preview(options: argparse.Namespace) -> int:
    from data.preview import contact_sheet
    from data.store import Split

    count = contact_sheet(
        Split(options.prepared, options.split), options.out, objects=options.objects, views=options.views
    )
    print(f"{options.out}: {count} objects")
    return 0


def _images(options: argparse.Namespace) -> int:
    from data.images import LIST, export
    from data.store import Split

    split = Split(options.prepared, options.split)
    count = export(split, options.out, views=options.views, size=options.size, white=options.white)
    print(f"{options.out}: {count} images; {options.out / LIST} lists their names")
    return 0


def _info(options: argparse.Namespace) -> int:
    from data.store import Split

    found = [split for split in SPLITS if (options.prepared / split).is_dir()]
    for name in found or SPLITS[:1]:
        split = Split(options.prepared, name)
        size = sum(path.stat().st_size for path in split.paths)
        categories = len(set(split.categories))
        per_object = f"{size / len(split) / 1e3:.0f} KB each" if len(split) else "empty"
        views = f"{split.n_views} views of {split.image_size} px"
        print(f"{name}: {len(split)} objects of {categories} categories, {views}, {per_object}")
        print("  " + ", ".join(f"{key} {value}" for key, value in split.params.items()))
    return 0


if __name__ == "__main__":
    run_cli(main)
