"""The command line of the figures: `python -m reports figure3 …`, and the files that it writes.

All take what every report takes: --rows, --protocol, --settings, --controls (method/variant), --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from evaluation.protocol import Protocol
    from reports.figures.gallery import Gallery
    from reports.figures.material import Material

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
        command.set_defaults(make=run)
        command.add_argument("--rows", nargs="+", type=Path, required=True, help="Parquet files of rows")
        command.add_argument("--protocol", default="v1")
        command.add_argument("--settings", nargs="*", default=[], help="method/variant; the first chooses the objects")
        command.add_argument("--controls", nargs="*", default=[], help="method/variant")
        command.add_argument("--out", type=Path, default=Path(f"reports/{name}.pdf"), help="PNG and CSV go beside it")
        pictures = name != "figure4"
        command.add_argument("--root", type=Path, required=pictures, help="runs/{dataset}/{scale}: meshes, manifests")
        if pictures:
            command.add_argument("--prepared", type=Path, required=True, help="folder of prepared shards")
            command.add_argument("--backend", default="auto", help="who draws: see python -m evaluation backends")


def run(args: argparse.Namespace) -> list[Path]:
    """Draw one figure; returns the files written. Raises UserError where its rows or meshes are not there."""
    from evaluation import protocol as protocols
    from reports import rows as readers

    rows, protocol = readers.read(args.rows, args.protocol), protocols.load(args.protocol)
    found = readers.one(rows, "protocol")
    if found != protocol.name:
        raise UserError(f"the rows are of protocol {found}, but the figure asks for {protocol.name}")
    for name in ("dataset", "scale"):
        readers.one(rows, name)
    return (_curves if args.command == "figure4" else _pictures)(args, rows, protocol)


def _curves(args: argparse.Namespace, rows: pd.DataFrame, protocol: Protocol) -> list[Path]:
    from core.files import write_text
    from reports.comparison import to_csv
    from reports.figures import figure4, style

    stem, dataset, scale = args.out.with_suffix(""), rows["dataset"].iloc[0], rows["scale"].iloc[0]
    table = figure4.points(rows, protocol, figure4.counts_at(scale), args.root)
    with style.figure(style.TEXT, figure4.HEIGHT) as made:
        figure4.draw(made, table, protocol, dataset=dataset, scale=scale)
        paths = style.save(made, stem)
    write_text(stem.with_suffix(".csv"), to_csv(table))
    return [*paths, stem.with_suffix(".csv")]


def _pictures(args: argparse.Namespace, rows: pd.DataFrame, protocol: Protocol) -> list[Path]:
    from core.files import write_text
    from evaluation import backends
    from reports.comparison import to_csv
    from reports.figures import style
    from reports.figures.material import Material

    material = Material(rows, protocol, args.prepared, args.root / "generated")
    choice = backends.choose(args.backend)
    with backends.using(choice):
        gallery, note = _gallery(args, material)
    if choice.rasteriser():
        note += f" Normal maps by {choice.rasteriser()}."
    stem = args.out.with_suffix("")
    with style.figure(style.TEXT, gallery.height(style.TEXT, note)) as made:
        gallery.draw(made)
        style.note(made, note)
        paths = style.save(made, stem)
    write_text(stem.with_suffix(".csv"), to_csv(material.shown(gallery.objects)))
    return [*paths, stem.with_suffix(".csv")]


def _gallery(args: argparse.Namespace, material: Material) -> tuple[Gallery, str]:
    from reports.figures import figure3, figure5, figure6

    if args.command == "figure3":
        names = [*args.settings, *args.controls]
        if not names:
            raise UserError("name at least one setting, for example --settings mar3d/full")
        return figure3.gallery(material, names, [figure3.title_of(name) for name in names])
    if args.command == "figure5":
        columns = figure5.columns()
        return figure5.gallery(material, list(columns), list(columns.values()))
    return figure6.gallery(material)
