"""The reports' front door: one command for each artefact of pipeline/artefacts.py.

    python -m reports table2 --protocol v1 --settings mar3d/full mar3d/no_pyramid --controls ground_truth/full \\
        --rows runs/procedural/cpu/rows/v1/*/*/seed0.parquet --out reports/table2.csv

writes `table2.csv`, `table2.md` and `table2_by_category.csv` beside each other; the others likewise.

    python -m reports record --out reports/recorded/mine

copies what `reports/all` lists, or else Table 2, with the rows and one manifest of the run, to a folder worth
committing.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

from core.errors import UserError, run_cli
from core.files import write_text
from reports.figures import command as figures

Make = Callable[[argparse.Namespace], None]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawTextHelpFormatter
    main = argparse.ArgumentParser(prog="python -m reports", description=__doc__, formatter_class=raw)
    commands = main.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--rows", nargs="+", type=Path, required=True, help="files of rows: Parquet, or a recorded CSV")
    shared.add_argument("--settings", nargs="+", default=[], help="method/variant")
    shared.add_argument("--controls", nargs="*", default=[], help="method/variant")
    shared.add_argument("--protocol", default="v1")

    def artefact(name: str, text: str, make: Make) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, parents=[shared])
        command.add_argument("--out", type=Path, default=Path(f"reports/{name}.csv"))
        command.set_defaults(make=make)
        return command

    artefact("table1", "methods on several test sets, with the paper's numbers", table1)
    ablations = artefact("table2", "the ablations of MAR-3D beside the paper's numbers", table2)
    ablations.add_argument("--held-out", help="the category that no training object has")
    numbers = artefact("table_s1", "the numbers behind Figure 5: MAR and DiT, matched in three ways", table_s1)
    numbers.add_argument("--root", type=Path, help="folder of the dataset and scale under runs/, for its manifests")
    artefact("schedules", "sweeps of MAR-3D's sampling", schedules)
    artefact("claims", "the paper's claims, each with a verdict", claims)
    figures.add(commands)
    index = commands.add_parser("all", help="list files with their hashes")
    index.add_argument("--files", nargs="+", type=Path, required=True)
    index.add_argument("--out", type=Path, default=Path("reports/all"))
    index.set_defaults(make=everything)
    keep = commands.add_parser("record", help="keep tables and figures with their rows and a manifest of the run")
    keep.add_argument("--reports", type=Path, default=Path("reports"), help="where they lie")
    keep.add_argument("--runs", type=Path, default=Path("runs"))
    keep.add_argument("--out", type=Path, required=True, help="folder")
    keep.add_argument("--also", nargs="*", type=Path, default=[], help="pictures to keep beside them")
    keep.set_defaults(make=record)
    page = commands.add_parser("front_page", help="the README's table, from the recorded default run")
    page.set_defaults(make=front_page)
    return main


def write_page(args: argparse.Namespace, text: str) -> None:
    """Write a table's page, which says so where its rows are of another backend than the CPU."""
    from reports import markdown, rows

    write_text(args.out.with_suffix(".md"), text + markdown.scored_by(rows.backends(args.rows), len(args.rows)))


def table1(args: argparse.Namespace) -> None:
    """Table 1 and its page."""
    from evaluation import protocol as protocols
    from reports import comparison, published, rows, settings, table1

    protocol, printed = protocols.load(args.protocol), published.read()
    chosen = [settings.setting(name) for name in [*args.settings, *args.controls]]
    if not chosen:
        raise UserError("name at least one setting, for example --settings mar3d/full")
    frame = table1.table(rows.read(args.rows, protocol.name), chosen, protocol, printed)
    write_page(args, table1.page(frame, protocol, printed))
    write_text(args.out, comparison.to_csv(frame))


def table2(args: argparse.Namespace) -> None:
    """Table 2, its page, and the same by category."""
    from evaluation import protocol as protocols
    from reports import markdown, published, rows, settings, table2

    protocol, printed = protocols.load(args.protocol), published.read()
    chosen = [settings.setting(name) for name in [*args.settings, *args.controls]]
    if not chosen:
        raise UserError("name at least one setting, for example --settings mar3d/full")
    all_rows = rows.read(args.rows, protocol.name)
    frame = table2.table(all_rows, chosen, protocol, printed)
    categories = table2.by_category(all_rows, chosen, protocol, args.held_out)
    write_text(args.out.with_name(f"{args.out.stem}_by_category.csv"), table2.to_csv(categories))
    write_page(args, markdown.render(frame, protocol, printed))
    write_text(args.out, table2.to_csv(frame))


def table_s1(args: argparse.Namespace) -> None:
    """Table S1 and its page."""
    from evaluation import protocol as protocols
    from reports import comparison, rows, table_s1

    protocol = protocols.load(args.protocol)
    all_rows = rows.read(args.rows, protocol.name)
    frame = table_s1.table(all_rows, table_s1.read(), args.settings, protocol, args.root)
    write_page(args, table_s1.page(frame, protocol))
    write_text(args.out, comparison.to_csv(frame))


def schedules(args: argparse.Namespace) -> None:
    """The sweeps of the sampling and their page."""
    from evaluation import protocol as protocols
    from reports import comparison, rows, schedules

    protocol = protocols.load(args.protocol)
    frame = schedules.table(rows.read(args.rows, protocol.name), schedules.read(), args.settings, protocol)
    write_page(args, schedules.page(frame, protocol))
    write_text(args.out, comparison.to_csv(frame))


def claims(args: argparse.Namespace) -> None:
    """The claims with their verdicts and their page."""
    from evaluation import protocol as protocols
    from reports import claims, claims_page, comparison, published, rows

    protocol, printed = protocols.load(args.protocol), published.read()
    all_rows, spec = rows.read(args.rows), claims.read()
    frame = claims.table(all_rows, spec, protocol, printed)
    write_page(args, claims_page.render(frame, all_rows, protocol, printed, spec["level"]))
    write_text(args.out, comparison.to_csv(frame))


def everything(args: argparse.Namespace) -> None:
    """What was made, as `sha256sum --check` reads it."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}\n" for path in args.files]
    write_text(args.out, "".join(lines))


def front_page(args: argparse.Namespace) -> None:
    """Write the README's table."""
    from reports.front_page import write

    write()


def record(args: argparse.Namespace) -> None:
    """Keep a run."""
    from reports.record import record

    print(f"{args.out}: {', '.join(record(args.reports, args.runs, args.out, args.also))}")


def main() -> None:
    """Run one command."""
    args = parser().parse_args()
    args.make(args)


if __name__ == "__main__":
    run_cli(main)
