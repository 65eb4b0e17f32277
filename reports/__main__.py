"""The reports' front door.

    python -m reports table2 --protocol v1 --settings mar3d/full mar3d/no_pyramid --controls ground_truth/full \\
        --rows runs/procedural/cpu/rows/v1/*/*/seed0.parquet --out reports/table2.csv

writes `table2.csv`, `table2.md` and `table2_by_category.csv` beside each other.

    python -m reports record --table reports/table2.csv --out reports/recorded/mine

copies them, with the rows and one manifest of the run, to a folder worth committing.

    python -m reports figure3 --rows runs/procedural/cpu/rows/v1/*/*/seed0.parquet --settings mar3d/full \\
        retrieval/full --prepared runs/procedural/cpu/prepared-… --root runs/procedural/cpu

draws a figure (3, 4, 5 or 6) as PDF and PNG.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from core.errors import run_cli
from core.files import write_text
from reports.figures import command as figures


def parser() -> argparse.ArgumentParser:
    """The command line."""
    raw = argparse.RawTextHelpFormatter
    main = argparse.ArgumentParser(prog="python -m reports", description=__doc__, formatter_class=raw)
    commands = main.add_subparsers(dest="command", required=True, metavar="table2|record|figure3|…|figure6")
    table2 = commands.add_parser("table2", help="the ablations of MAR-3D beside the paper's numbers")
    table2.add_argument("--rows", nargs="+", type=Path, required=True, help="Parquet files of rows")
    table2.add_argument("--settings", nargs="+", required=True, help="method/variant; compared with the first one")
    table2.add_argument("--controls", nargs="*", default=[], help="method/variant")
    table2.add_argument("--protocol", default="v1")
    table2.add_argument("--held-out", help="the category that no training object has")
    table2.add_argument("--out", type=Path, default=Path("reports/table2.csv"))
    record = commands.add_parser("record", help="keep a table with its rows and a manifest of its run")
    record.add_argument("--table", type=Path, default=Path("reports/table2.csv"))
    record.add_argument("--runs", type=Path, default=Path("runs"))
    record.add_argument("--out", type=Path, required=True, help="folder")
    figures.add(commands)
    return main


def main() -> None:
    """Run one command."""
    args = parser().parse_args()
    if args.command == "record":
        from reports.record import record

        print(f"{args.out}: {', '.join(record(args.table, args.runs, args.out))}")
        return
    if args.command in figures.FIGURES:
        args.make(args)
        return
    from evaluation import protocol as protocols
    from reports import markdown, published, rows, settings, table2

    protocol, printed = protocols.load(args.protocol), published.read()
    chosen = [settings.setting(name) for name in [*args.settings, *args.controls]]
    all_rows = rows.read(args.rows)
    frame = table2.table(all_rows, chosen, protocol, printed)
    categories = table2.by_category(all_rows, chosen, protocol, args.held_out)
    write_text(args.out.with_name(f"{args.out.stem}_by_category.csv"), table2.to_csv(categories))
    write_text(args.out.with_suffix(".md"), markdown.render(frame, protocol, printed))
    write_text(args.out, table2.to_csv(frame))


if __name__ == "__main__":
    run_cli(main)
