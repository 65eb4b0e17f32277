"""`python -m methods plan` and `python -m methods step`: their options and what they print."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, known
from core.files import write_text
from methods.registry import resolve
from methods.specs import SCALES, parse_setting

if TYPE_CHECKING:
    from methods.contract import Step  # it loads NumPy, before whose loading threads are limited

STANDARD_OUTPUT = Path("-")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Declare both commands."""
    plan = commands.add_parser(
        "plan",
        help="what training and generation will take: memory, FLOPs, GPU-hours",
        description="Count one step of every stage on the meta device (nothing is trained, no GPU is needed) and say "
        "what the whole run will take on a card that reaches a stated share of its published bf16 peak: docs/plan.md.",
    )
    plan.add_argument("--scale", required=True, help=", ".join(SCALES))
    plan.add_argument(
        "--method", nargs="+", metavar="METHOD/VARIANT", help="settings; by default all that the scale's tables ask for"
    )
    plan.add_argument("--gpu", default="h100", help="a card of methods/foresee/cards.yaml (default: %(default)s)")
    plan.add_argument("--gpus", type=int, default=1, help="cards that share each training (default: %(default)s)")
    plan.add_argument(
        "--utilisation", type=float, default=0.4, help="share of the peak that is reached (default: %(default)s)"
    )
    plan.add_argument("--dataset", help="whose data are foreseen (default: the configured one)")
    plan.add_argument("--objects", type=int, help="training objects (default: as many as there are procedural shapes)")
    plan.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON (- for standard output)")
    plan.add_argument("--csv", type=Path, metavar="FILE", help="also write the stages as CSV (- for standard output)")
    step = commands.add_parser(
        "step",
        help="run training steps of a stage on made-up data: seconds, memory, TFLOP/s",
        description="Run a few training steps of one stage at its full size on made-up data of the true sizes, on the "
        "GPU if there is one, and print what a step took. See docs/plan.md.",
    )
    step.add_argument("--method", required=True, metavar="METHOD/VARIANT")
    step.add_argument("--stage", required=True)
    step.add_argument("--scale", required=True, help=", ".join(SCALES))
    step.add_argument("--batch", type=int, help="samples of a step; the configured number if not given")
    step.add_argument(
        "--repeats",
        type=int,
        default=5,
        help="timed steps of each kind, after a first one; 0: that one (default: 5)",
    )
    step.add_argument(
        "--compile",
        action="store_true",
        help="also with torch.compile of the repeated blocks, as hardware.compile does",
    )
    step.add_argument("--draw", help="only this kind of step, such as a bank of the VAE; all if not given")
    step.add_argument("--gpu", help="a card, to print its utilisation")
    step.add_argument("--device", default="auto", help="auto, cuda or cpu (default: %(default)s)")
    step.add_argument("--json", type=Path, metavar="FILE", help="also write it as JSON (- for standard output)")


def plan(args: argparse.Namespace) -> None:
    """Print (and write) the plan."""
    from methods.foresee.cards import get_card
    from methods.foresee.data import GIGA, data_text, foresee_data, objects_of, on_device, views_of
    from methods.foresee.sizes import configuration, settings_of, sizes_of

    card, config = get_card(args.gpu), configuration(args.scale)
    if args.gpus < 1:
        raise UserError(f"--gpus is {args.gpus}: it must be at least 1")
    settings = [parse_setting(name) for name in args.method] if args.method else settings_of(config)
    sizes = sizes_of(config)
    dataset = args.dataset or config["dataset"]
    objects = objects_of(config, dataset, args.objects)

    from methods.foresee.table import as_csv, as_json, as_text
    from methods.foresee.totals import foresee, foresee_kept
    from methods.training.streaming import DATA_SHARE

    def told(name: str) -> None:
        print(f"\rcounting {name}".ljust(79), end="", file=sys.stderr, flush=True)

    stages, generations = foresee(settings, args.scale, sizes, card, args.utilisation, told, args.gpus)
    print("\r".ljust(80) + "\r", end="", file=sys.stderr, flush=True)
    kept, memory_gb = foresee_kept(settings, args.scale, views_of(config, objects)["train"])
    memory_gb = memory_gb and min(memory_gb, DATA_SHARE * card.memory_gb)
    data = foresee_data(config, dataset, objects, kept, memory_gb)
    samples = {s.stage.split("-")[0]: s.samples for s in stages if s.samples}
    assumed = {"scale": args.scale, "gpus": args.gpus, "card": vars(card), "utilisation": args.utilisation}
    assumed["sizes"] = vars(sizes)
    beside = on_device(data, DATA_SHARE * card.memory_gb * GIGA)
    if STANDARD_OUTPUT not in (args.json, args.csv):
        print(as_text(stages, generations, card, args.gpus, args.utilisation, beside))
        print("\n".join(["", *data_text(data, samples)]))
    if args.json:
        record = as_json(stages, generations, assumed) | {"data": dataclasses.asdict(data)}
        _write(args.json, json.dumps(record, indent=2) + "\n")
    if args.csv:
        _write(args.csv, as_csv(stages))


def _write(path: Path, text: str) -> None:
    if path == STANDARD_OUTPUT:
        print(text, end="")
    else:
        write_text(path, text)


def step(args: argparse.Namespace) -> None:
    """Print what a step of a stage took."""
    from methods.foresee.cards import get_card
    from methods.foresee.sizes import configuration, sizes_of

    stage = resolve(*parse_setting(args.method), args.scale).stage(args.stage)
    sizes, card = sizes_of(configuration(args.scale)), get_card(args.gpu) if args.gpu else None

    from methods.foresee.measure import matrix_rate, run_steps
    from methods.foresee.totals import made_up_step
    from methods.training.loop import device_of

    if args.compile and not args.repeats:
        raise UserError("--compile needs --repeats of at least 1: the first step of compiled blocks compiles them")
    device = device_of(args.device)

    def make_up() -> Step:
        made_up = made_up_step(stage, args.scale, sizes, batch=args.batch, device=str(device))
        if made_up is None:
            raise UserError(f"{stage.owner} has no step_of, so its steps cannot be made up (methods/contract.py)")
        if args.draw is None:
            return made_up
        if args.draw not in made_up.draws:
            raise known(f"kind of step of {args.stage}", args.draw, made_up.draws)
        return dataclasses.replace(made_up, draws={args.draw: (1.0, made_up.draws[args.draw][1])})

    made_up = make_up()
    about = {"stage": stage.folder_name, "device": str(device)}
    about |= {name: made_up.training[name] for name in ("batch", "precision")}
    frozen, measured = bool(made_up.frozen), matrix_rate(device, about["precision"])
    taken = run_steps(made_up, device, repeats=args.repeats)
    rate = taken.flops / taken.seconds
    found = about | {
        "step_seconds": taken.seconds,
        "timed": taken.timed,
        "samples_per_second": taken.samples_per_second,
        "step_tflop": taken.flops / 1e12,
        "tflops": rate / 1e12,
        "matrix_tflops": measured / 1e12,
        "utilisation": rate / measured,
        "loss": taken.loss,
        "peak_memory_gb": taken.peak_bytes / 1e9,
    }
    if card is not None:
        found["utilisation_published"] = rate / card.tflops / 1e12
    told = args.json != STANDARD_OUTPUT
    if told:
        print("\n".join(step_text(found, frozen=frozen, card=card.label if card else "")), flush=True)
    if args.compile:
        if args.json and told:  # what there is already, should compiling end the process
            write_text(args.json, json.dumps(found, indent=2) + "\n")
        del made_up  # its memory is wanted for the second one
        found |= _compiled(lambda: run_steps(make_up(), device, repeats=args.repeats, compiled=True).seconds)
        if told:
            print(_compiled_text(found))
    if args.json:
        _write(args.json, json.dumps(found, indent=2) + "\n")


def _compiled(seconds: Callable[[], float]) -> dict[str, Any]:
    """Seconds of a compiled step; None, and why, where compiling fails: the step itself has been measured."""
    try:
        return {"compiled_seconds": seconds()}
    except Exception as error:  # no compiler, too little memory, an operation that it does not know
        return {"compiled_seconds": None, "not_compiled": (str(error).strip() or type(error).__name__).splitlines()[0]}


def _compiled_text(found: Mapping[str, Any]) -> str:
    if found["compiled_seconds"] is None:
        return f"  not compiled: {found['not_compiled']}"
    gain = found["step_seconds"] / found["compiled_seconds"]
    return f"  compiled: {found['compiled_seconds']:.3g} s a step, {gain:.3g} times as fast (hardware.compile)"


def step_text(found: Mapping[str, Any], *, frozen: bool, card: str) -> list[str]:
    """Lines of what a step took. frozen: whether networks that only run were made up. card: its name, or none."""
    memory = "device" if found["device"].startswith("cuda") else "process"
    lines = [
        f"{found['stage']} on {found['device']}, batch {found['batch']}, {found['precision']}",
        f"  {found['step_seconds']:.3g} s a step (of each kind the median of {found['timed']}),"
        f" {found['samples_per_second']:.3g} samples/s",
        f"  {found['step_tflop']:.3g} TFLOP a step, {found['tflops']:.3g} TFLOP/s",
        f"  utilisation {found['utilisation']:.1%} of the {found['matrix_tflops']:.3g} TFLOP/s of a large matrix"
        " product here",
        f"  loss {found['loss']:.4g}",
        f"  peak memory {found['peak_memory_gb']:.2f} GB ({memory})",
    ]
    if frozen:
        lines.insert(1, "  its frozen networks have random weights: time and FLOPs do not depend on them")
    if card:
        lines.append(f"  utilisation {found['utilisation_published']:.1%} of {card}'s published peak")
    return lines


COMMANDS = {"plan": plan, "step": step}
"""By name."""
