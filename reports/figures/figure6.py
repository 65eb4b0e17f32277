"""Figure 6: what the VAE makes of a thin structure, with a single level at three sizes and with the pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.errors import UserError
from core.randomness import numpy_rng
from reports.figures.figure3 import COLOURS
from reports.figures.figure4 import COUNTS, LABELS, METHOD, counts_at, metrics, placing
from reports.figures.gallery import Cell, Gallery, cut, framed
from reports.figures.material import Material
from reports.figures.normals import normal_map, pixel_of, radius_of
from reports.figures.selection import at_quantiles, in_words
from reports.figures.thickness import NEIGHBOURS, OBLIQUE, PARALLEL, RIM, ThinPlace, thinnest

SHOWN = ("single_lr", "single_hr", "single_twice_hr", "pyramid_hr")
QUANTILES = (0.05, 0.15, 0.3)
PIXELS = 1280  # a side of the whole picture
WINDOW = 0.22  # of it, a side of what is zoomed


def gallery(material: Material, quantiles: Sequence[float] = QUANTILES) -> tuple[Gallery, str]:
    """For each chosen object the truth with the window marked, then the window: truth and reconstructions."""
    tried = [material.of(f"{METHOD}/{variant}") for variant in SHOWN]
    first = next((rows for rows in tried if len(rows)), None)
    if first is None:
        raise UserError(f"the rows hold none of {', '.join(SHOWN)} of {METHOD}; run them first")
    closed = first.dropna(subset=[metrics(material.protocol)[1]])  # through an open mesh there is no thickness
    views = {name: int(view) for name, view in closed.groupby("object")["view"].min().items()}
    places = {name: place for name, view in views.items() if (place := place_of(material, name, view)) is not None}
    if not places:
        raise UserError("no closed test object has two near-parallel walls, so figure6 has no thin structure to show")
    chosen = at_quantiles({name: place.thickness for name, place in places.items()}, quantiles)
    tokens = counts_at(str(material.rows["scale"].iloc[0]))
    titles = ["ground truth", "ground truth, zoomed"]
    for variant in SHOWN:
        kind, _, count = variant.partition("_")
        titles.append(f"{LABELS[kind]}, {COUNTS[count]}, {tokens[count]} tokens")
    made = Gallery(
        titles=titles,
        labels=[f"{name}\nwall {places[name].thickness:.3f}" for name in chosen],
        rows=[_row(material, name, views[name], places[name]) for name in chosen],
        objects=[(name, views[name]) for name in chosen],
        lines=1,
    )
    return made, _note(material, quantiles, len(places))


def place_of(material: Material, object: str, view: int) -> ThinPlace | None:
    """The thinnest place of a test object, in its view frame."""
    return thinnest(*material.sample(object, view).mesh(), rng=numpy_rng("figure6", object, view))


def _row(material: Material, object: str, view: int, place: ThinPlace) -> list[Cell]:
    truth = material.sample(object, view).mesh()
    found = [material.row(f"{METHOD}/{variant}", object, view) for variant in SHOWN]
    meshes = [material.mesh(row) if row and row["status"] == "ok" else None for row in found]
    radius = radius_of([truth[0], *(mesh.vertices for mesh in meshes if mesh is not None)])
    size = int(PIXELS * WINDOW)
    spot = pixel_of(place.point, place.view, radius=radius, size=PIXELS)
    x, y = np.clip(np.rint(spot - size / 2).astype(int), 0, PIXELS - size)

    def zoomed(picture: np.ndarray) -> np.ndarray:
        return picture[y : y + size, x : x + size]

    def drawn(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        return normal_map(vertices, faces, place.view, radius=radius, size=PIXELS)

    whole = drawn(*truth)
    marked = whole.copy()
    marked[y : y + size, x : x + size] = 0
    frame = framed([marked])
    left, top = (round(part * PIXELS) for part in frame[:2])
    cells = [Cell(cut(whole, frame), box=(x - left, y - top, size, size))]
    cells.append(Cell(zoomed(whole), ring=(spot[0] - x, spot[1] - y), edged=True))
    for row, mesh in zip(found, meshes, strict=True):
        if mesh is None:
            cells.append(Cell(None, absent="failed" if row else "not run"))
            continue
        picture = zoomed(drawn(mesh.vertices, mesh.faces))
        empty = bool((picture > 0.99).all())
        cells.append(Cell(None if empty else picture, _numbers(row, material), absent="nothing here", edged=True))
    return cells


def _numbers(row: dict[str, Any], material: Material) -> str:
    cd, viou = metrics(material.protocol)
    return f"IoU {row[viou]:.2f}   CD {row[cd] / material.protocol.report.cd_unit:.3f}"


def _note(material: Material, quantiles: Sequence[float], n: int) -> str:
    protocol, rows = material.protocol, material.rows
    cd, viou = metrics(protocol)
    return (
        f"Ring: the least distance through the true solid between walls within {PARALLEL:g}° of parallel, near"
        f" where the wall ends (within {RIM:g} × that distance; median of {NEIGHBOURS} neighbouring rays, in the view"
        f" frame, whose box has a longest side of 1.9), seen from about {OBLIQUE:g}° off the wall."
        f" Objects: {in_words(quantiles)} of that distance over the n = {n} closed test objects that have such walls."
        f" Reconstructions stand as they were decoded. {COLOURS}"
        f" IoU: volume IoU at {viou.removeprefix('viou_')}³ cells ↑, and CD:"
        f" {cd.replace('cd_', 'CD-')} ↓ in the box [-1, 1]³, of the whole"
        f" object. Dataset {rows['dataset'].iloc[0]}, scale {rows['scale'].iloc[0]}, protocol {protocol.name}"
        f" ({placing(protocol)}), first seed."
    )
