"""A contact sheet of generated meshes: condition image, one column for each run, ground truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from core.errors import UserError
from core.files import atomic_path
from data.render import Scene
from data.store import Split
from data.views import View
from methods.meshes import read_ply

LABEL = 14  # pixels of text
BLOCKS = 2  # rows of objects stand in that many columns


def read_results(folder: Path) -> dict[tuple[str, int], dict]:
    """The lines of a run's `generate.jsonl` by (object, view)."""
    path = folder / "generate.jsonl"
    if not path.exists():
        raise UserError(f"{path} is not there: generate first, or name the folder that holds generate.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(line["object"], line["view"]): line for line in lines}


def contact_sheet(prepared: Path, runs: Sequence[Path], out: Path, *, objects: int = 12, size: int = 128) -> int:
    """Write a PNG of test objects, spread evenly over the first run's list; returns how many.

    Meshes are drawn as clay in the view frame, under the camera of the condition image. A failed object is an
    empty tile that says so.
    """
    split = Split(prepared, "test")
    results = [read_results(run) for run in runs]
    keys = list(results[0])
    chosen = [keys[k] for k in np.unique(np.linspace(0, len(keys) - 1, min(objects, len(keys))).round().astype(int))]
    titles = ["condition", *(f"{run.parents[1].name}/{run.parent.name}" for run in runs), "truth"]
    width, height = len(titles) * size + 8, size + LABEL
    sheet = Image.new("RGB", (BLOCKS * width, -(-len(chosen) // BLOCKS) * height + LABEL), "white")
    draw = ImageDraw.Draw(sheet)
    for block in range(BLOCKS):
        for column, title in enumerate(titles):
            draw.text((block * width + column * size + 2, 1), title[: size // 6], fill=(90, 90, 90))
    for k, (name, view) in enumerate(chosen):
        x, y = k % BLOCKS * width, k // BLOCKS * height + LABEL
        sample = split.sample(split.objects.index(name), view)
        tiles = [_on_white(sample.image(), size)]
        for run, found in zip(runs, results, strict=True):
            line = found.get((name, view))
            ok = line is not None and line["status"] == "ok"
            tiles.append(_clay(*read_ply(run / line["mesh"]), sample.view.elevation, size) if ok else _failed(size))
        tiles.append(_clay(*sample.mesh(), sample.view.elevation, size))
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (x + column * size, y))
        draw.text((x + 2, y + size), f"{name} view {view}", fill=(0, 0, 0))
    with atomic_path(out) as temporary:
        sheet.save(temporary, "PNG", optimize=True)
    return len(chosen)


def _on_white(image: np.ndarray, size: int) -> Image.Image:
    alpha = image[..., 3:].astype(np.float32) / 255
    rgb = np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return Image.fromarray(rgb).resize((size, size), Image.Resampling.BICUBIC)


def _clay(vertices: np.ndarray, faces: np.ndarray, elevation: float, size: int) -> Image.Image:
    view = View(np.eye(3, dtype=np.float32), 1.0, np.zeros(3, np.float32), elevation, 0.0, True)
    return _on_white(Scene(vertices, faces).render(view, size).image, size)


def _failed(size: int) -> Image.Image:
    tile = Image.new("RGB", (size, size), (245, 245, 245))
    ImageDraw.Draw(tile).text((size // 2 - 18, size // 2 - 6), "failed", fill=(170, 0, 0))
    return tile
