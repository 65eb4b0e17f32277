"""The front door of the room: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core.errors import UserError, run_cli
from core.files import read_json, write_json
from core.gpu import gpu_variables
from core.identity import ROOT
from core.threads import thread_variables

PATHS = {
    "extraction": "mesh extraction: coarse to fine against the dense grid",
    "decoder_queries": "occupancy queries: share of the machine's matrix rate",
    "mar_sampling": "MAR sampling against the plain loop",
    "training_step": "a training step of VAE, MAR-LR, MAR-HR, DiT",
    "preparation": "preparing a mesh at the full recipe",
    "scoring": "scoring a pair under protocol v1",
    "dag": "planning the workflow, starting Python",
    "table2": "the default run as a whole",
    "extraction_real": "extraction by a fitted decoder, of real objects (--finished runs/meshes/cpu)",
}
"""In the order in which they run: the last one loads all cores, which the next would take for other work."""
DESCRIPTION = """Measure the hot paths beside a peer, a limit and a theory of growth.

  python -m benchmarks list                   the paths
  python -m benchmarks run                    all of them: results/<machine>.json, README.md, plots (make bench)
  python -m benchmarks run scoring dag        some; the others' results stay
  python -m benchmarks run --quick            tiny sizes, to see that it runs: into runs/benchmarks, not for quoting
  python -m benchmarks report                 README.md and plots from the results that there are
"""
TORCH = ("extraction", "extraction_real", "decoder_queries", "mar_sampling", "training_step", "table2")
"""The paths that a device makes faster; the others are the processor's on every machine."""
HERE = Path(__file__).resolve().parent
QUICK_OUT = ROOT / "runs" / "benchmarks"
PATIENCE = 120
"""Seconds that a run waits for a busy machine: the load of a run that has just ended takes a minute or so to fall."""


def main(arguments: list[str] | None = None) -> int:
    """Parse and run one command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=DESCRIPTION, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what there is to measure").set_defaults(run=_list)
    run = commands.add_parser("run", help="measure, and write results and report")
    _add_options(run)
    run.set_defaults(run=_run)
    report = commands.add_parser("report", help="README.md and plots from results")
    report.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="default: benchmarks")
    report.set_defaults(run=_report)
    one = commands.add_parser("one", help="measure one path in this process, for `run`")
    _add_options(one)
    one.set_defaults(run=_one)
    options = parser.parse_args(arguments)
    return options.run(options)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"{', '.join(PATHS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the networks (default: cpu)")
    parser.add_argument("--scale", default="cpu", help="of the networks: smoke, cpu, gpu, paper (default: cpu)")
    parser.add_argument("--meshes", type=Path, metavar="DIR", help="meshes to prepare (default: procedural objects)")
    parser.add_argument("--finished", type=Path, metavar="DIR", help="a finished run of Table 2: runs/DATASET/SCALE")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="clones of other projects: benchmarks/peers.py")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: benchmarks; with --quick runs/benchmarks")


def _list(_: argparse.Namespace) -> int:
    for name, what in PATHS.items():
        print(f"{name:16s} {what}")
    return 0


def _chosen(options: argparse.Namespace) -> list[str]:
    for name in options.paths:
        if name not in PATHS:
            raise UserError(f"there is no path {name!r}: choose from {', '.join(PATHS)}")
    known = PATHS if options.device == "cpu" else TORCH
    if other := [name for name in options.paths if name not in known]:
        raise UserError(f"a GPU does not change {', '.join(other)}: leave --device out or choose {', '.join(known)}")
    return [name for name in known if not options.paths or name in options.paths]


def _run(options: argparse.Namespace) -> int:
    """Each path in a process of its own, on one thread, which must be said before NumPy and torch are imported."""
    from benchmarks import machine, report, result

    out = options.out or (QUICK_OUT if options.quick else HERE)
    gpu = machine.gpu() if options.device == "cuda" else ""
    other = " ".join(name for name in (gpu, options.scale) if name and name != "cpu")
    results = out / "results" / f"{machine.machine_name(other)}.json"
    chosen, failed = _chosen(options), []
    environment = {**os.environ, **thread_variables(1)}
    environment |= gpu_variables(os.environ) if options.device == "cuda" else {}
    if not options.quick:
        _wait_while_loaded()
    begin = time.monotonic()
    idle = machine.describe(threads=1, gpu=gpu)  # before anything is started
    if idle["busy"]:
        print(f"warning: the machine is busy (load {idle['load'][0]} on {idle['cores']} cores), so these times are"
              " not to be quoted: run again when it is free", file=sys.stderr)  # fmt: skip
    for name in chosen:
        print(f"{name}: {PATHS[name]}", flush=True)
        start = time.monotonic()
        about = machine.describe(threads=1, gpu=gpu)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "outcome.json"
            command = [sys.executable, "-m", "benchmarks", "one", name, "--out", str(written), *_passed_on(options)]
            done = subprocess.run(command, cwd=ROOT, env=environment)
            seconds = round(time.monotonic() - start, 1)
            if done.returncode or not written.exists():
                print(f"error: {name} did not end (status {done.returncode}); its older result stays", file=sys.stderr)
                failed.append(name)
                continue
            # A path itself loads one core and for some parts two: what else ran shows in the load before each.
            crowded = about["busy"] if name == chosen[0] else machine.busy(about["load"][0])
            entry = {"machine": {**about, "busy": crowded}, "quick": options.quick, "given": _given(options)}
            entry |= {"scale": options.scale, "device": options.device, "run": idle["time"]}
            result.add_result(results, name, {**entry, "seconds": seconds, "outcome": read_json(written)})
        print(f"{name}: {seconds:.0f} s", flush=True)
    report.write(out, list(PATHS))
    print(f"{out / 'README.md'}: {(time.monotonic() - begin) / 60:.1f} minutes in all")
    return 1 if failed else 0


def _wait_while_loaded() -> None:
    """Let the load of what ran before fall, for PATIENCE seconds at most; other work does not go away by it."""
    from benchmarks import machine

    end = time.monotonic() + PATIENCE
    if machine.loaded():
        print(f"load {os.getloadavg()[0]:.1f}: waiting for it to fall, at most {PATIENCE} s", flush=True)
    while machine.loaded() and time.monotonic() < end:
        time.sleep(5)


def _given(options: argparse.Namespace) -> dict[str, str]:
    """The inputs that were named, without what is above them on this machine."""
    kept = {"meshes": 1, "finished": 2, "peers": 1}  # a finished run is known by DATASET/SCALE
    named = {name: value for name in kept if (value := getattr(options, name))}
    return {name: "/".join(value.resolve().parts[-kept[name] :]) for name, value in named.items()}


def _passed_on(options: argparse.Namespace) -> list[str]:
    words = ["--device", options.device, "--scale", options.scale]
    words += ["--quick"] if options.quick else []
    for name in ("meshes", "finished", "peers"):
        value = getattr(options, name)
        words += [f"--{name}", str(value.resolve())] if value else []
    return words


def _one(arguments: argparse.Namespace) -> int:
    from benchmarks.options import Options
    from benchmarks.result import as_json

    (name,) = _chosen(arguments)
    names = ("quick", "device", "scale", "meshes", "finished", "peers")
    options = Options(**{key: getattr(arguments, key) for key in names})
    if name in TORCH:
        import torch

        torch.set_num_threads(1)
    outcome: Any = importlib.import_module(f"benchmarks.{name}").run(options)
    write_json(arguments.out, as_json(outcome))
    return 0


def _report(options: argparse.Namespace) -> int:
    from benchmarks import report

    report.write(options.out, list(PATHS))
    print(options.out / "README.md")
    return 0


if __name__ == "__main__":
    run_cli(main)
