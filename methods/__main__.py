"""The methods' front door.

    python -m methods list
    python -m methods show mar3d --variant full --scale cpu
    python -m methods fit --method mar3d --variant full --stage vae --scale cpu --dataset procedural --seed 0 \\
        --prepared runs/procedural/cpu/prepared-… --runs runs
    python -m methods generate --method mar3d --variant full --scale cpu --dataset procedural --seed 0 \\
        --prepared runs/procedural/cpu/prepared-… --runs runs
    python -m methods plan --scale paper --gpus 8 --gpu h100 --method mar3d/full
    python -m methods step --method mar3d/full --stage mar_lr --scale paper --batch 8 --gpu h100
    python -m methods preview --prepared runs/procedural/cpu/prepared-… --out sheet.png \\
        --generated runs/procedural/cpu/generated/mar3d/full/seed0
    python -m methods guidance --method mar3d/full dit/cascade --scale cpu --dataset procedural \\
        --prepared runs/procedural/cpu/prepared-… --runs runs
    python -m methods weights --scale paper

`fit --processes 2`, or torchrun --nproc-per-node 2 -m methods fit …, trains on two devices: docs/training.md.
`fit` and `generate` resume where they were killed. `list` and `show` read YAML only: `list` has a line for each
method, `show` also names its variants. `plan` foresees what a run takes, `step` measures one. `guidance` compares
guidance scales on the validation split.
`weights` finds or fetches the pretrained models of a scale.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from core.errors import UserError, run_cli
from core.files import write_json
from core.gpu import gpu_variables
from core.threads import thread_variables
from methods import guidance_search, idle
from methods.foresee import command as foresee_command
from methods.places import generated_folder
from methods.registry import get_method, load_methods, resolve
from methods.specs import SCALES
from methods.training import processes


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawTextHelpFormatter
    main = argparse.ArgumentParser(prog="python -m methods", description=__doc__, formatter_class=raw)
    commands = main.add_subparsers(
        dest="command", required=True, metavar="list|show|plan|step|fit|generate|guidance|preview|weights"
    )
    commands.add_parser("list", help="what methods there are")
    show = commands.add_parser("show", help="the variants of a method, and the resolved params and stage keys of one")
    show.add_argument("method")
    show.add_argument("--variant", help="the first one if not given")
    show.add_argument("--scale", default="cpu", help=", ".join(SCALES))
    foresee_command.add_commands(commands)
    guidance_search.add_command(commands)
    preview = commands.add_parser("preview", help="a contact sheet: condition image, generated meshes, ground truth")
    preview.add_argument("--prepared", type=Path, required=True, help="folder of prepared shards")
    preview.add_argument("--generated", type=Path, required=True, nargs="+", help="folders that hold generate.jsonl")
    preview.add_argument("--out", type=Path, required=True, help="PNG to write")
    preview.add_argument("--objects", type=int, default=12)
    preview.add_argument("--size", type=int, default=128, help="pixels of a tile")
    weights = commands.add_parser("weights", help="find or fetch the pretrained models that a scale needs")
    weights.add_argument("--scale", required=True, help=", ".join(SCALES))
    weights.add_argument("--to", type=Path, metavar="FOLDER", help="put copies here, for a machine without network")
    weights.add_argument("--out", type=Path, help="JSON to write: where each model is, and the hash of its weights")
    for name, text in (("fit", "train one stage"), ("generate", "make one mesh for every evaluation view")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--method", required=True)
        command.add_argument("--variant", required=True)
        command.add_argument("--scale", required=True, help=", ".join(SCALES))
        command.add_argument("--dataset", required=True, help="a name for paths and random streams")
        command.add_argument("--seed", type=int, required=True)
        command.add_argument("--prepared", type=Path, required=True, help="folder of prepared shards")
        command.add_argument("--runs", type=Path, required=True, help="folder of runs, where stages live")
        command.add_argument("--threads", type=int, help="CPU threads; OMP_NUM_THREADS if not given")
        command.add_argument("--killed", metavar="REASON", help="record that it was killed each time it was tried")
        if name == "fit":
            command.add_argument("--stage", required=True)
            command.add_argument("--processes", type=int, default=1, help="that train together, each on its own device")
        else:
            command.add_argument("--out", type=Path, help="where to write; the run's own folder if not given")
            command.add_argument("--trained-on", metavar="DATASET", help="whose stages to use; --dataset if not given")
            command.add_argument("--views", type=int, default=1, help="evaluation views per object")
            command.add_argument("--batch", type=int, help="objects generated together; else as the config says")
    return main


def list_methods() -> None:
    """Print one line per method."""
    rows = [("method", "kind", "variants", "stages", "summary")]
    for method in load_methods().values():
        stages = (f"{s.name} (of {s.borrowed_from})" if s.borrowed_from else s.name for s in method.stages.values())
        rows.append((method.name, method.kind, str(len(method.variants)), " ".join(stages) or "-", method.summary))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1], sep="  ")


def show_method(name: str, variant: str | None, scale: str) -> None:
    """Print what a method resolves to."""
    import yaml

    plan = resolve(name, variant or get_method(name).first_variant, scale)
    print(f"{plan.method.label} ({plan.method.name}/{plan.variant.name}, scale {scale}): {plan.method.summary}")
    for reference in (*plan.method.references, *plan.method.links.values()):
        print(f"  {reference}")
    print(f"variants: {' '.join(plan.method.variants)}")
    print(yaml.safe_dump({"params": dict(plan.params)}, sort_keys=False).rstrip())
    print("stages:" + ("" if plan.stages else " none"))
    for stage in plan.stages:
        needs = f" after {', '.join(stage.needs)}" if stage.needs else ""
        print(f"  {stage.name}: {stage.folder_name}{needs}, reads {', '.join(stage.params) or 'nothing'}")


def find_weights(scale: str, to: Path | None, out: Path | None) -> None:
    """Print, and record in `out`, where the pretrained models of a scale are; or put copies into `to`."""
    from methods.layers.pretrained import ENVIRONMENT, download, require, wanted, weights_hash

    plans = [resolve(m.name, variant, scale) for m in load_methods().values() for variant in m.variants]
    models = list(dict.fromkeys(model for plan in plans for model in wanted(plan.params)))
    if to is not None:
        download(models, to)
        return print(f"set {ENVIRONMENT}={to.resolve()}")
    found = {model.model: folder for model, folder in require(models).items()}
    for name, folder in found.items():
        print(f"{name}: {folder}")
    if not found:
        print(f"scale {scale} needs no pretrained model")
    if out is not None:
        write_json(
            out, {name: {"folder": str(folder), "sha256": weights_hash(folder)} for name, folder in found.items()}
        )
    return None


def set_threads(threads: int | None) -> int:
    """Fix the CPU threads of everything in this process before anything heavy is imported; returns their number."""
    text = os.environ.get("OMP_NUM_THREADS", "") if threads is None else str(threads)
    if text and (not text.isdigit() or int(text) < 1):
        raise UserError(f"threads must be a whole number of at least 1, not {text!r}")
    count = int(text) if text else len(os.sched_getaffinity(0))
    os.environ.update(thread_variables(count))
    return count


def main() -> None:
    """Run one command."""
    args = parser().parse_args()
    os.environ.update(gpu_variables(os.environ))
    if args.command == "list":
        return list_methods()
    if args.command == "show":
        return show_method(args.method, args.variant, args.scale)
    if args.command in foresee_command.COMMANDS:
        set_threads(None)
        return foresee_command.COMMANDS[args.command](args)
    if args.command == guidance_search.KEY:
        set_threads(None)
        return guidance_search.run(args)
    if args.command == "weights":
        return find_weights(args.scale, args.to, args.out)
    if args.command == "preview":
        from methods.preview import contact_sheet

        count = contact_sheet(args.prepared, args.generated, args.out, objects=args.objects, size=args.size)
        return print(f"{args.out}: {count} objects")
    plan = resolve(args.method, args.variant, args.scale)
    if args.command == "fit" and args.killed is None:
        batches = idle.batches_of(plan.stage(args.stage).params)
        several = args.processes > 1 and processes.count() == 1 and batches  # without a batch there is nothing to share
        if several and (count := idle.told(args.processes, batches)) > 1:
            from methods.training.launcher import start_processes

            own = max(1, (args.threads or len(os.sched_getaffinity(0))) // count)
            return start_processes(count, ["methods", *sys.argv[1:], "--threads", str(own)])  # the last one counts
        if not idle.take_part(batches):
            return None
    threads = set_threads(args.threads)

    from methods.contract import PreparedData

    data = PreparedData(args.prepared, args.dataset, args.scale)
    if args.command == "fit":
        from methods.run import fit

        options = {"seed": args.seed, "runs": args.runs, "threads": threads, "killed": args.killed}
        fit(args.method, args.variant, args.stage, data, **options)
        if processes.count() > 1:
            from methods.training import devices

            devices.leave(args.stage)
        return None
    from methods.generate import generate

    out = args.out or generated_folder(args.runs, args.dataset, args.scale, plan.method.name, args.variant, args.seed)
    generate(
        args.method,
        args.variant,
        data,
        seed=args.seed,
        runs=args.runs,
        out=out,
        threads=threads,
        views=args.views,
        batch=args.batch,
        trained_on=args.trained_on,
        killed=args.killed,
    )
    return None


if __name__ == "__main__":
    run_cli(main)
