"""The front door of the room: `python -m evaluation --help`."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, run_cli
from core.threads import thread_variables
from evaluation import backends_command

if TYPE_CHECKING:  # the libraries behind these load when a command runs, so that --help is quick
    from evaluation.load import Triangles
    from evaluation.protocol import Protocol

DESCRIPTION = """Score meshes under a named protocol.

  python -m evaluation score prediction.obj truth.glb     two meshes, a small table
  python -m evaluation rows --generated DIR ...           a folder of generated meshes, one row an object and view
  python -m evaluation protocols                          the recipes there are
  python -m evaluation backends                           who finds nearest neighbours here
  python -m evaluation floor --meshes DIR --out CSV       what a perfect prediction scores, by number of points
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and run one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_score(commands)
    _add_rows(commands)
    _add_floor(commands)
    backends_command.add(commands)
    protocols = commands.add_parser("protocols", help="list the protocols", description="List the protocols.")
    protocols.set_defaults(run=_protocols)
    arguments = parser.parse_args(argv)
    return arguments.run(arguments)


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "score",
        help="score one mesh against another",
        description="Normalise both meshes, turn the prediction onto the ground truth and print the numbers before and "
        "after. Any format that trimesh reads: obj, ply, stl, off, glb, gltf, ...; +Y is up.",
    )
    parser.add_argument("prediction", type=Path, help="the mesh to judge")
    parser.add_argument("truth", type=Path, help="the mesh it should be")
    parser.add_argument("--protocol", default="v1", help="name of a protocol (default: %(default)s)")
    parser.add_argument("--name", default="", help="seeds the surface samples with the protocol (default: empty)")
    backends_command.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table; undefined numbers are null")
    parser.set_defaults(run=_score)


def _add_rows(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "rows",
        help="score a folder of generated meshes",
        description="Read DIR/generate.jsonl and the meshes beside it, score each against the test split of the "
        "prepared shards in the same view, and write one row an object and view as Parquet. A failed object is a row.",
    )
    parser.add_argument("--generated", type=Path, required=True, help="folder with generate.jsonl and meshes/")
    parser.add_argument("--prepared", type=Path, required=True, help="folder of the prepared shards (with test/)")
    parser.add_argument("--protocol", default="v1", help="name of a protocol (default: %(default)s)")
    for key in ("dataset", "scale", "method", "variant"):
        parser.add_argument(f"--{key}", required=True, help=f"written into the column {key!r}")
    parser.add_argument("--seed", type=int, required=True, help="written into the column 'seed'")
    parser.add_argument("--threads", type=int, default=1, help="processes of one thread each; rows do not depend on it")
    backends_command.add_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")
    parser.set_defaults(run=_rows)


def _add_floor(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "floor",
        help="measure the floor of each metric",
        description="Sample one surface twice, independently, and score one sample against the other: the unit sphere, "
        "and meshes of a folder. Writes mean and standard deviation for each number of points as CSV, and prints the "
        "table that docs/protocol.md quotes.",
    )
    parser.add_argument("--meshes", type=Path, help="a folder of mesh files; without it the sphere alone")
    parser.add_argument("--label", default="meshes", help="what the table calls them (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=20, help="meshes, and pairs of samples of the sphere")
    parser.add_argument("--points", type=int, nargs="+", help="numbers of points (default: 1,000 to 100,000)")
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--turned", nargs="+", metavar="PROTOCOL", help="instead: the meshes turned about +Y, aligned")
    parser.set_defaults(run=_floor)


def _protocols(_: argparse.Namespace) -> int:
    from evaluation import protocol

    for name in protocol.names():
        print(f"{name:14s} {protocol.load(name).summary}")
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from evaluation import backends, load, protocol, score

    backends.use(backends.choose(arguments.backend, arguments.sampler))
    recipe = protocol.load(arguments.protocol)
    meshes = []
    for path in (arguments.prediction, arguments.truth):
        try:
            meshes.append(load.read(path))
        except load.MeshError as error:
            raise UserError(f"{path}: {error}") from error
    try:
        numbers = score.score(*meshes, recipe, name=arguments.name)
    except load.MeshError as error:
        raise UserError(str(error)) from error
    if arguments.json:
        facts = {"protocol": recipe.name} | numbers | _mesh_facts(*meshes)
        print(json.dumps({key: _or_null(value) for key, value in facts.items()}, indent=2))
    else:
        print(_table(recipe, numbers, *meshes))
    return 0


def _mesh_facts(prediction: Triangles, truth: Triangles) -> dict[str, int | bool]:
    return {
        f"{role}_{key}": value
        for role, mesh in (("prediction", prediction), ("truth", truth))
        for key, value in (
            ("vertices", len(mesh.vertices)),
            ("faces", len(mesh.faces)),
            ("watertight", mesh.watertight),
            ("components", mesh.components),
        )
    }


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(recipe: Protocol, numbers: dict[str, Any], prediction: Triangles, truth: Triangles) -> str:
    lines = [f"protocol {recipe.name}: {recipe.points} points, normalise {recipe.normalise}", ""]
    lines.append(f"{'':14s} {'before':>9s} {'after':>9s}")
    for name in recipe.metrics:
        lines.append(f"{name:14s} {numbers[name + '_before']:9.4f} {numbers[name]:9.4f}")
    lines += ["", _alignment(recipe, numbers)]
    for role, mesh in (("prediction", prediction), ("truth", truth)):
        closed = "watertight" if mesh.watertight else "not watertight"
        parts = "1 component" if mesh.components == 1 else f"{mesh.components} components"
        lines.append(f"{role}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces, {closed}, {parts}")
    if recipe.viou and not truth.watertight:
        lines.append("volume IoU is undefined (nan): the truth is not watertight")
    return "\n".join(lines)


def _alignment(recipe: Protocol, numbers: dict[str, Any]) -> str:
    if recipe.align.starts == "none":
        return "alignment: none in this protocol"
    if numbers["start"] == "none":
        return "alignment: none accepted, since no start lowers cd_avg"
    return (
        f"alignment: rotation {numbers['rotation_deg']:.2f} degrees from start {numbers['start']}, "
        f"scale {numbers['align_scale']:.4f}, residual {numbers['residual']:.4f}"
    )


def _floor(arguments: argparse.Namespace) -> int:
    import pandas as pd

    from core.files import write_text
    from evaluation import floor, protocol

    if arguments.pairs < 2 or min(arguments.points or [1]) < 1:
        raise UserError("--pairs must be at least 2, for a standard deviation, and --points at least 1")
    files = [path for path in arguments.meshes.rglob("*") if path.is_file()] if arguments.meshes else []
    if arguments.turned:
        protocols = [protocol.load(name) for name in arguments.turned]
        frame, page = floor.turned(floor.meshes(files, arguments.pairs), protocols), floor.turned_to_markdown
    else:
        groups = {"unit sphere": floor.spheres(arguments.pairs)}
        if arguments.meshes:
            groups[arguments.label] = floor.meshes(files, arguments.pairs)
        frame, page = floor.table(groups, arguments.points or floor.POINTS), floor.to_markdown
    write_text(arguments.out, floor.to_csv(frame))
    print(page(pd.read_csv(arguments.out)), end="")  # of the digits that were written, which the page is held against
    return 0


def _rows(arguments: argparse.Namespace) -> int:
    from evaluation import backends, protocol, rows

    backend = backends.choose(arguments.backend, arguments.sampler)
    labels = {key: getattr(arguments, key) for key in ("dataset", "scale", "method", "variant", "seed")}
    recipe = protocol.load(arguments.protocol)
    table = rows.score_folder(
        arguments.generated, arguments.prepared, recipe, labels, processes=arguments.threads, backend=backend
    )
    rows.write(table, arguments.out, backend=backend.record())
    return 0


if __name__ == "__main__":
    # One thread in every library, set before they load: sums of several threads differ in their last digits, and
    # `rows` runs one process per core instead.
    os.environ.update(thread_variables(1))
    run_cli(main)
