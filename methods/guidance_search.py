"""Choosing the guidance scale, for every method alike: volume IoU on the validation split.

The classifier-free guidance of all stages of a setting is set to one value after the other, and shapes are generated
from validation views; test objects are never touched. No mesh is made and nothing is aligned, so this takes a tenth of
an evaluation. It prints what `sampling.*.guidance` of a config should be, and changes nothing.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError
from methods.places import stage_folder
from methods.registry import resolve
from methods.specs import SCALES, Plan, parse_setting

KEY = "guidance"
VALUES = (1.0, 2.0, 3.0, 5.0)
BATCH = 16


def add_command(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    command = commands.add_parser(
        KEY,
        help="volume IoU on the validation split for several guidance scales",
        description="Generate from validation views with one guidance scale after the other, from trained stages.",
    )
    command.add_argument("--method", nargs="+", required=True, metavar="METHOD/VARIANT")
    command.add_argument("--scale", required=True, help=", ".join(SCALES))
    command.add_argument("--dataset", required=True, help="a name for paths and random streams")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--prepared", type=Path, required=True, help="folder of prepared shards")
    command.add_argument("--runs", type=Path, required=True, help="folder of runs, where stages live")
    command.add_argument("--values", type=float, nargs="+", default=VALUES, help="guidance scales (default: 1 2 3 5)")
    command.add_argument("--views", type=int, default=1, help="views of each validation object (default: 1)")


def guided(params: Mapping[str, Any], value: float) -> dict[str, Any]:
    """A copy of params in which every stage samples with this guidance scale; UserError where none has one."""
    params = copy.deepcopy(dict(params))
    stages = [stage for stage in params.get("sampling", {}).values() if isinstance(stage, dict) and KEY in stage]
    if not stages:
        raise UserError("its sampling has no guidance scale, so there is nothing to choose")
    for stage in stages:
        stage[KEY] = value
    return params


def summary(scores: Iterable[float | None]) -> tuple[float, float, int]:
    """Mean, standard error and n of the scores that are defined."""
    defined = [score for score in scores if score is not None]
    spread = statistics.stdev(defined) / len(defined) ** 0.5 if len(defined) > 1 else float("nan")
    return statistics.fmean(defined), spread, len(defined)


def vious(
    plan: Plan, value: float, samples: Sequence[Any], *, runs: Path, dataset: str, seed: int
) -> list[float | None]:
    """Volume IoU of a plan's trained stages on each of the samples, with this guidance scale."""
    from core.randomness import numpy_rng
    from methods import manifest
    from methods.run import make_method

    stages = {stage.name: stage_folder(runs, dataset, plan.scale, stage, seed) for stage in plan.stages}
    for name, folder in stages.items():
        if manifest.read_stage(folder)["status"] != "ok":
            raise UserError(f"stage {name} of {plan.setting} failed; mend it and fit it again")
    generator = make_method(plan.method, guided(plan.params, value)).load(stages, manifest.pick_device())
    if not hasattr(generator, "viou"):
        raise UserError(f"{plan.method.name} has no occupancy field to compare; see Generator in methods/contract.py")
    names = [(dataset, plan.method.name, seed, sample.object, sample.view_index) for sample in samples]
    rngs = [numpy_rng(KEY, *name) for name in names]  # the same noise for each value
    parts = [slice(start, start + BATCH) for start in range(0, len(samples), BATCH)]
    return [score for part in parts for score in generator.viou(samples[part], rngs=rngs[part])]


def run(args: argparse.Namespace) -> None:
    """Print a line for each setting and value; the best of a setting is marked."""
    from data.store import Split, evaluation_views

    plans = [resolve(*parse_setting(name), args.scale) for name in args.method]
    split = Split(args.prepared, "val")
    samples = [split.sample(i, v) for i, v in evaluation_views(split, args.views)]
    print(f"{'setting':28} guidance  volume IoU   s.e.     n   {args.dataset}, {args.scale}, validation")
    for plan in plans:
        options = {"runs": args.runs, "dataset": args.dataset, "seed": args.seed}
        found = {value: summary(vious(plan, value, samples, **options)) for value in args.values}
        best = max(found, key=lambda value: found[value][0])
        for value, (mean, error, n) in found.items():
            print(
                f"{plan.setting:28} {value:8g}  {mean:10.4f}  {error:.4f}  {n:4d}{'   best' if value == best else ''}"
            )
