"""Figure 3: normal maps of each method beside the condition image and the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.protocol import Protocol
from reports import settings
from reports.comparison import metric_columns
from reports.figures.gallery import Cell, Gallery, cut, framed, on_white
from reports.figures.material import Material
from reports.figures.normals import look, normal_map, radius_of
from reports.figures.selection import QUANTILES, in_words

PIXELS = 512  # a side of a picture
COLOURS = "Colours: normals in camera axes, red right, green up, blue to the camera."


def gallery(
    material: Material, names: Sequence[str], titles: Sequence[str], quantiles: Sequence[float] = QUANTILES
) -> tuple[Gallery, str]:
    """One row of pictures for each object that the rule chooses, and the note that goes under them.

    names: method/variant, the first one's score chooses the objects; one without rows is drawn as `not run`.
    """
    ruler, chosen = material.chosen(names, quantiles)
    rows = [row_of(material, names, object, view) for object, view in chosen]
    made = Gallery(
        titles=["condition", *titles, "ground truth"],
        labels=[object for object, _ in chosen],
        rows=rows,
        objects=chosen,
        lines=2,
    )
    return made, note(material, title_of(ruler), quantiles, material.of(ruler)["object"].nunique())


def row_of(material: Material, names: Sequence[str], object: str, view: int) -> list[Cell]:
    """Condition image, a normal map for each name, ground truth: one object under one camera."""
    sample = material.sample(object, view)
    found = [material.row(name, object, view) for name in names]
    meshes = [material.aligned(row, sample) if row and row["status"] == "ok" else None for row in found]
    truth = sample.mesh()
    drawn = [mesh for mesh in [*meshes, truth] if mesh is not None]
    radius, view = radius_of([vertices for vertices, _ in drawn]), look(sample.view.elevation)
    pictures = [normal_map(*mesh, view, radius=radius, size=PIXELS) for mesh in drawn]
    condition = on_white(sample.image())
    frame = framed([*pictures, _as_large(condition)])
    left = iter([cut(picture, frame) for picture in pictures])
    cells = [Cell(cut(condition, frame))]
    for row, mesh in zip(found, meshes, strict=True):
        if mesh is None:
            cells.append(Cell(None, absent="not run" if row is None else "failed"))
        else:
            cells.append(Cell(next(left), numbers(row, material.protocol)))
    return [*cells, Cell(next(left))]


def _as_large(picture: np.ndarray) -> np.ndarray:
    """A square picture with PIXELS a side, each pixel repeated."""
    nearest = np.arange(PIXELS) * len(picture) // PIXELS
    return picture[nearest][:, nearest]


def numbers(row: dict[str, Any], protocol: Protocol) -> str:
    """F-score and Chamfer distance of a row, in the unit of the protocol, on two lines."""
    columns = metric_columns(protocol)
    return f"F {row[columns['fscore']]:.2f}\nCD {row[columns['cd']] / protocol.report.cd_unit:.3f}"


def title_of(name: str) -> str:
    """What a method/variant is called; its own name where no method of that name is there."""
    return settings.setting(name).label


def note(material: Material, ruler: str, quantiles: Sequence[float], n: int) -> str:
    """The rule and where the numbers come from."""
    protocol, rows = material.protocol, material.rows
    cd = protocol.report.cd.replace("cd_", "CD-")
    unit = f" in units of {protocol.report.cd_unit:g}" if protocol.report.cd_unit != 1 else ""
    return (
        f"Objects: {in_words(quantiles)} of F@{protocol.report.fscore:g} of “{ruler}” over n = {n} test objects; first"
        " view, first seed. Meshes stand as the protocol aligned them."
        f" F: F-score at {protocol.report.fscore:g} ↑; CD: {cd}{unit} ↓, box [-1, 1]³."
        f" {COLOURS}"
        f" Dataset {rows['dataset'].iloc[0]}, scale {rows['scale'].iloc[0]}, protocol {protocol.name}."
    )
