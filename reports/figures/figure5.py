"""Figure 5: DiT and MAR, at LR tokens, at HR tokens directly, and as cascades without and with augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from core.errors import UserError
from core.yaml_files import read_yaml
from evaluation.protocol import Protocol
from methods.specs import parse_setting
from reports.figures import figure3
from reports.figures.gallery import Gallery
from reports.figures.material import Material
from reports.settings import Setting
from reports.table2 import table

QUANTILES = (0.25, 0.5, 0.75)
FILE = Path(__file__).resolve().parent.parent / "figure5.yaml"


def columns(path: Path = FILE) -> dict[str, str]:
    """Titles by method/variant, in the order of the columns, from `reports/figure5.yaml`. UserError for a bad one."""
    entries = read_yaml(path)["columns"]
    for entry in entries:
        if set(entry) != {"setting", "title"}:  # a comma in a title without quotes makes a key of what follows
            raise UserError(f"{path.name}: a column has the keys {', '.join(entry)}; it takes setting and title")
    return {entry["setting"]: entry["title"] for entry in entries}


def gallery(
    material: Material, names: Sequence[str], titles: Sequence[str], quantiles: Sequence[float] = QUANTILES
) -> tuple[Gallery, str]:
    """Columns (a), (b), … in the order of `names`, their means under them; what was not run is an empty column."""
    ruler, chosen = material.chosen(names, quantiles)
    measured = means(material.rows, names, material.protocol)
    lettered = [f"({letter}) {title}" for letter, title in zip(ascii_lowercase, titles, strict=False)]
    made = Gallery(
        titles=["condition", *lettered, "ground truth"],
        labels=[object for object, _ in chosen],
        rows=[figure3.row_of(material, names, object, view) for object, view in chosen],
        objects=chosen,
        lines=2,
        below=["mean over\nn objects", *(text_of(measured.loc[name]) for name in names), ""],
        below_lines=6 if (measured["n_failed"] > 0).any() else 5,
    )
    n = material.of(ruler)["object"].nunique()
    letter = lettered[list(names).index(ruler)].split()[0]
    note = figure3.note(material, letter, quantiles, n)
    failed = " Failed objects count with the worst values." if (measured["n_failed"] > 0).any() else ""
    matched = " DiT and MAR have equal parameters and training steps; other matchings stand in Table S1."
    return made, f"{note}{matched} Under each column: mean and 95 % bootstrap interval over objects.{failed}"


def means(rows: pd.DataFrame, names: Sequence[str], protocol: Protocol) -> pd.DataFrame:
    """Means with intervals as Table 2 has them, by method/variant; a name that was not run has NaN."""
    settings = [Setting(*parse_setting(name), label=name) for name in names]
    return table(rows, settings, protocol, {}).set_index(pd.Index(names))


def text_of(line: pd.Series) -> str:
    """F and CD with their intervals, n and failures, on up to six lines; `not run` where there are no numbers."""
    if pd.isna(line["fscore"]):
        return "not run" if str(line["status"]).startswith("missing") else "failed"
    f, cd = ([line[f"{metric}{end}"] for end in ("", "_low", "_high")] for metric in ("fscore", "cd"))
    failed = f"\n{line['n_failed']} failed" if line["n_failed"] else ""
    return (
        f"F {f[0]:.3f}\n[{f[1]:.3f}, {f[2]:.3f}]\nCD {cd[0]:.3f}\n[{cd[1]:.3f}, {cd[2]:.3f}]\n"
        f"n = {line['n_objects']}{failed}"
    )
