"""The frame's front door.

    python -m pipeline alone [--gpus N] [--attempt I] LOCK COMMAND …              for the rules: run a command while no
                                                                                  other holds LOCK
    python -m pipeline status --scale gpu --dataset meshes reports/table2.csv     exit status 1 for failed rows
    python -m pipeline pack --scale gpu --dataset meshes --out bundle.tar.gz      what a bare GPU machine needs
    python -m pipeline unpack bundle.tar.gz --into FOLDER                         there (tar does it as well)
    python -m pipeline results --configfile bundle.yaml --out results.tar.gz      there, when the jobs are done
    python -m pipeline collect results.tar.gz --scale gpu --dataset meshes        here again
    python -m pipeline gpu                                                        all that a machine with a GPU is for

docs/clusters.md tells the whole way.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, run_cli
from pipeline import attempts, cards, lock, needs, outcome
from pipeline.artefacts import asked_for

if TYPE_CHECKING:
    from pipeline.dag import Dag


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawTextHelpFormatter
    main = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__, formatter_class=raw)
    commands = main.add_subparsers(dest="what", required=True, metavar="alone|status|pack|unpack|results|collect|gpu")
    alone = commands.add_parser("alone", help="run a command while no other holds the lock")
    alone.add_argument("lock", type=Path)
    alone.add_argument("--gpus", type=int, help="cards of its own for the command; 0 hides all (default: leave as is)")
    alone.add_argument("--attempt", type=int, help=f"of {needs.ATTEMPTS}; the last one, if killed, leaves a record")
    alone.add_argument("command", nargs=argparse.REMAINDER, help="what to run")
    status = commands.add_parser("status", help="say what failed in the tables of the last run")
    status.add_argument("targets", nargs="*", help="as for snakemake")
    unpack = commands.add_parser("unpack", help="unpack a bundle and check its files")
    unpack.add_argument("archive", type=Path)
    unpack.add_argument("--into", type=Path, default=Path(), help="folder in which benchmark/ is made")
    pack = commands.add_parser("pack", help="bundle code and prepared data for another machine")
    pack.add_argument("--out", type=Path, required=True, help="archive to write: .tar.gz, .tar.xz or .tar")
    pack.add_argument("--wheels", type=Path, help="folder of packages to take along")
    pack.add_argument("--stages", action="store_true", help="take finished stages along")
    pack.add_argument("--caches", action="store_true", help="with their caches, such as latents, else made again there")
    pack.add_argument("--meshes", action="store_true", help="take the meshes, not the shards: they are prepared there")
    pack.add_argument("--limit", type=float, default=60, help="MB that the archive may have (default 60)")
    pack.add_argument("--allow-dirty", action="store_true", help="pack HEAD though tracked files differ from it")
    results = commands.add_parser("results", help="archive what this run has finished")
    results.add_argument("--out", type=Path, required=True, help="archive to write: .tar.gz, .tar.xz or .tar")
    results.add_argument("--caches", action="store_true", help="with the stages' caches, such as latents")
    collect = commands.add_parser("collect", help="take the results of another machine into this run")
    collect.add_argument("archive", type=Path)
    collect.add_argument("--replace", action="store_true", help="also where another result lies")
    gpu = commands.add_parser(
        "gpu",
        help="tests, measurements and the recorded run of a machine with a GPU",
        description="All that a machine with a GPU is for, in pieces that resume: docs/clusters.md has the list, and -n"
        " says what is to be done.",
    )
    gpu.add_argument(
        "targets",
        nargs="*",
        help="tables and figures, as for snakemake (default: what is foreseen to train in 45 minutes)",
    )
    gpu.add_argument("--cores", default="all", help="processor cores for snakemake (default: all)")
    gpu.add_argument("--cpu", action="store_true", help="go without a GPU, to try the chain: best at scale smoke")
    gpu.add_argument("--out", type=Path, help="folder to keep it in (default: reports/recorded/SCALE-DATASET)")
    gpu.add_argument("--without", action="append", default=[], metavar="PIECE", help="leave one out; may be repeated")
    gpu.add_argument("-n", "--dry-run", action="store_true", help="only say which pieces there are and what is done")
    for command in (status, pack, results, collect, gpu):
        command.add_argument("--configfile", type=Path, help="YAML that is laid over the scale's configuration")
        command.add_argument("--scale", help="smoke, cpu, gpu or paper")
        command.add_argument("--dataset", help="a name, or the path of a folder of meshes")
    return main


def main() -> int:
    """Run one command."""
    arguments = parser().parse_args()
    if arguments.what == "alone":
        return run_alone(arguments)
    if arguments.what == "unpack":
        from pipeline.bundle import unpack

        print(f"{unpack(arguments.archive, arguments.into)}: every file is as it was packed")
        return 0
    if arguments.what == "gpu":
        run_gpu(arguments)
        return 0
    from pipeline import bundle, results

    dag, given = _dag(arguments)
    if arguments.what == "status":
        outcome.status(asked_for(set(arguments.targets)), dag.description)
        return 0
    if arguments.what == "pack":
        chosen = {
            name: getattr(arguments, name) for name in ("limit", "wheels", "stages", "caches", "meshes", "allow_dirty")
        }
        sizes = bundle.pack(dag, given, arguments.out, **chosen)
        whole = sizes.pop("whole")
        listed = ", ".join(f"{part} {size:.1f}" for part, size in sizes.items())
        print(f"{arguments.out}: {whole:.1f} MB ({listed} before compression)")
        return 0
    if arguments.what == "results":
        count, size = results.gather(dag, arguments.out, caches=arguments.caches)
        print(f"{arguments.out}: {count} results, {size:.1f} MB")
        return 0
    collected = results.collect(dag, arguments.archive, replace=arguments.replace)
    print(f"taken: {len(collected.taken)}, here already: {len(collected.same)}, kept instead: {len(collected.other)}")
    for name in collected.other:
        print(f"kept: {name} is another result than the archive's; --replace takes the archive's")
    return 1 if collected.other else 0


def run_alone(arguments: argparse.Namespace) -> int:
    """Become the command of a rule, with the lock and the cards held; at the last attempt, watch over it."""
    if not arguments.command:
        raise UserError("a command is missing behind the lock")
    lock.wait_for(arguments.lock)
    if arguments.gpus is not None:
        cards.choose(arguments.gpus)
    if arguments.attempt is not None and arguments.attempt >= needs.ATTEMPTS:
        return attempts.run_last(arguments.command, arguments.attempt)
    lock.become(arguments.command)
    return 0


def run_gpu(arguments: argparse.Namespace) -> None:
    """Everything that a machine with a GPU is for; at scale `gpu`, of the bundle that this is or else of `meshes`."""
    from pipeline import gpu
    from pipeline.bundle import CONFIG

    gpu.check_card(cpu=arguments.cpu)
    bundled = not (arguments.configfile or arguments.scale or arguments.dataset) and Path(CONFIG).is_file()
    if bundled:
        arguments.configfile = Path(CONFIG)
    elif not arguments.configfile:
        arguments.scale, arguments.dataset = arguments.scale or "gpu", arguments.dataset or "meshes"
    dag, given = _dag(arguments)
    config = ["--configfile", str(arguments.configfile)] if arguments.configfile else []
    chosen = [f"{key}={given[key]}" for key in ("scale", "dataset") if getattr(arguments, key)]
    config += ["--config", *chosen] if chosen else []
    todo = gpu.pieces(
        dag,
        config,
        cores=arguments.cores,
        cpu=arguments.cpu,
        out=arguments.out,
        targets=arguments.targets or gpu.TARGETS,
        bundled=bundled,
    )
    folder = gpu.folder_of(dag)
    if not arguments.dry_run:
        gpu.alone(folder)
    gpu.run(todo, folder, without=arguments.without, dry=arguments.dry_run)
    if not arguments.dry_run:
        print(gpu.summary(folder))


def _dag(arguments: argparse.Namespace) -> tuple[Dag, dict[str, Any]]:
    """The run that the options name, and what they gave of its configuration."""
    from core.yaml_files import read_yaml
    from pipeline.config import load
    from pipeline.dag import Dag

    given = read_yaml(arguments.configfile) or {} if arguments.configfile else {}
    given |= {key: value for key in ("scale", "dataset") if (value := getattr(arguments, key))}
    return Dag(load(given)), given


if __name__ == "__main__":
    run_cli(main)
