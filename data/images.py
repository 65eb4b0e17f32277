"""Condition images as PNG files, for systems outside of this project, and the list of what they are called."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from core.errors import UserError
from core.files import atomic_path, write_text
from core.progress import Progress
from data.names import view_name
from data.render import Scene
from data.store import Sample, Split, evaluation_views

LIST = "views.csv"
COLUMNS = ("name", "object", "view", "category", "elevation", "azimuth")


def export(split: Split, out: Path, *, views: int = 1, size: int | None = None, white: bool = False) -> int:
    """Write `out/{name}.png` for the evaluation views of a split, and `out/views.csv`; returns how many images.

    views: for each object, as `evaluation.views` of the configuration. size: pixels a side, rendered anew from the
    stored mesh through the same camera; without it the stored pixels, just as methods of this project see them.
    white: RGB on white instead of RGBA with straight alpha. Raises UserError where the stored mesh lacks the colours.
    """
    if size is not None and size < 8:
        raise UserError(f"--size is {size}: at least 8 pixels are needed")
    if size is not None and split.params["shading"] != "clay":
        raise UserError(
            "the stored meshes have no colours to render anew: leave out --size, or prepare with a larger image_size"
        )
    pairs = evaluation_views(split, views)
    progress = Progress("images", len(pairs))
    lines = []
    for done, (i, v) in enumerate(pairs, 1):
        sample = split.sample(i, v)
        name = view_name(sample.object, v)
        image = sample.image() if size is None else rendered(sample, size)
        with atomic_path(out / f"{name}.png") as temporary:
            Image.fromarray(on_white(image) if white else image).save(temporary, "PNG")
        angles = (f"{sample.view.elevation:.4f}", f"{sample.view.azimuth:g}")
        lines.append((name, sample.object, v, sample.category, *angles))
        progress.update(done)
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(lines)
    write_text(out / LIST, buffer.getvalue())
    return len(lines)


def rendered(sample: Sample, size: int) -> np.ndarray:
    """The condition image of a view at another size, (size, size, 4) uint8 RGBA, from the stored mesh."""
    scene = Scene(*sample.split.mesh(sample.index))
    return scene.render(sample.view, size, supersample=max(2, sample.split.params["supersample"])).image


def on_white(image: np.ndarray) -> np.ndarray:
    """RGBA with straight alpha (h, w, 4) uint8 to RGB (h, w, 3) uint8 on white."""
    alpha = image[..., 3:].astype(np.float32) / 255
    return np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
