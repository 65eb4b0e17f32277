"""A contact sheet of a prepared dataset, so that a person can look at what the models will see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from core.errors import UserError
from core.files import atomic_path
from data.store import Split
from data.views import FIELD_OF_VIEW, camera

PAPER = 255
LABEL = 14  # pixels of text under each object
BLOCKS = 3  # objects side by side, where there are more than a few


def contact_sheet(split: Split, out: str | Path, *, objects: int = 24, views: int = 6) -> int:
    """Write a PNG: for each object its views (upright first) and its stored surface points; returns how many objects.

    Objects are spread evenly over the split. The last tile shows the stored points, coloured by their normal, through
    the camera of the first: it must agree with the first image.
    """
    if not len(split):
        raise UserError(f"{split.folder / split.name} holds no objects: see its quarantine files")
    chosen = np.unique(np.linspace(0, len(split) - 1, min(objects, len(split))).round().astype(int)).tolist()
    seen = np.unique(np.linspace(0, split.n_views - 1, min(views, split.n_views)).round().astype(int)).tolist()
    size = split.image_size
    blocks = BLOCKS if len(chosen) > BLOCKS else 1
    width, height = (len(seen) + 1) * size + 8, size + LABEL
    sheet = Image.new("RGB", (blocks * width, -(-len(chosen) // blocks) * height), (PAPER,) * 3)
    draw = ImageDraw.Draw(sheet)
    for k, i in enumerate(chosen):
        x, y = k % blocks * width, k // blocks * height
        for column, v in enumerate(seen):
            sheet.paste(_on_paper(split.image(i, v)), (x + column * size, y))
            draw.text((x + column * size + 2, y), str(v), fill=(150, 150, 150))
        sheet.paste(_points(split, i, seen[0]), (x + len(seen) * size, y))
        label = f"{i} {split.objects[i]}" + (f" ({split.categories[i]})" if split.categories[i] else "")
        draw.text((x + 2, y + size), label[: (width - 10) // 6], fill=(0, 0, 0))
    with atomic_path(out) as temporary:
        sheet.save(temporary, "PNG")
    return len(chosen)


def _on_paper(image: np.ndarray) -> Image.Image:
    alpha = image[..., 3:].astype(np.float32) / 255
    return Image.fromarray(np.rint(image[..., :3] * alpha + PAPER * (1 - alpha)).astype(np.uint8))


def _points(split: Split, i: int, v: int) -> Image.Image:
    """Stored surface points through the camera of a view, coloured by normal, nearest on top."""
    sample = split.sample(i, v)
    points, normals = sample.surface()
    radius = float(np.linalg.norm(sample.mesh()[0], axis=1).max())
    position, axes = camera(sample.view.elevation, radius)
    local = (points - position) @ axes.T
    flat = local[:, :2] / (-local[:, 2:] * np.tan(np.radians(FIELD_OF_VIEW / 2)))
    size = split.image_size
    pixels = np.clip(((flat * [1, -1] + 1) / 2 * size).astype(int), 0, size - 1)
    order = np.argsort(local[:, 2])  # far ones first
    tile = np.full((size, size, 3), PAPER, np.uint8)
    tile[pixels[order, 1], pixels[order, 0]] = np.rint((normals[order] + 1) * 127.5)
    return Image.fromarray(tile)
