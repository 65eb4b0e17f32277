"""The command line of the figures: `python -m reports figure3 …`, and the files that it writes."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.errors import UserError

FIGURES = {
    "figure3": "normal maps of each method beside the condition image and the truth",
    "figure4": "reconstruction by the VAE against its number of tokens",
    "figure5": "DiT and MAR: LR, direct HR, cascades",
    "figure6": "reconstructions of thin structures",
}


def add(commands: argparse._SubParsersAction) -> None:
    """Add one command for each figure."""
    for name, about in FIGURES.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--rows", nargs="+", type=Path, required=True, help="Parquet files of rows")
        command.add_argument("--protocol", default="v1")
        command.add_argument(
            "--out", type=Path, default=Path(f"reports/{name}.pdf"), help="PDF; the PNG stands beside it"
        )
        if name != "figure4":
            command.add_argument("--prepared", type=Path, required=True, help="folder of prepared shards")
            command.add_argument("--generated", type=Path, required=True, help="runs/{dataset}/{scale}/generated")
        if name in ("figure3", "figure5"):
            command.add_argument("--settings", nargs="+", required=True, help="method/variant, or method/variant=title")


def run(args: argparse.Namespace) -> list[Path]:
    """Draw one figure; returns the files written. Raises UserError where its rows or meshes are not there."""
    from evaluation import protocol as protocols
    from reports import rows as readers
    from reports.figures import style

    rows, protocol = readers.read(args.rows), protocols.load(args.protocol)
    found = readers.one(rows, "protocol")
    if found != protocol.name:
        raise UserError(f"the rows are of protocol {found}, but the figure asks for {protocol.name}")
    dataset, scale = readers.one(rows, "dataset"), readers.one(rows, "scale")
    stem = args.out.with_suffix("")
    if args.command == "figure4":
        from core.files import write_text
        from reports.figures import figure4
        from reports.table2 import to_csv

        table = figure4.points(rows, protocol, figure4.counts_at(scale))
        with style.figure(style.TEXT, figure4.HEIGHT) as made:
            figure4.draw(made, table, protocol, dataset=dataset, scale=scale)
            paths = style.save(made, stem)
        write_text(stem.with_suffix(".csv"), to_csv(table))
        return [*paths, stem.with_suffix(".csv")]
    from reports.figures import figure3, figure5, figure6
    from reports.figures.material import Material

    material = Material(rows, protocol, args.prepared, args.generated)
    if args.command == "figure6":
        gallery, note = figure6.gallery(material)
    else:
        split = [text.partition("=") for text in args.settings]
        names = [name for name, _, _ in split]
        titles = [title.replace("\\n", "\n") or figure3.title_of(name) for name, _, title in split]
        module = figure3 if args.command == "figure3" else figure5
        gallery, note = module.gallery(material, names, titles)
    lines = note.count("\n") + 1
    with style.figure(style.TEXT, gallery.height(style.TEXT, lines)) as made:
        gallery.draw(made)
        style.note(made, note, lines=lines)
        return style.save(made, stem)
