"""A table of pictures: titles above the columns, a label beside each row, a line of numbers under each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.figures.style import FACE, FAINT, GRID, INK, SMALL

LEFT = 0.42  # inches, of the rows' labels
TITLE = 0.38  # inches, of the columns' titles
LINE = SMALL * 1.3 / 72  # inches, of a line of text


@dataclass(frozen=True)
class Cell:
    """One picture (h, w, 3) in [0, 1], or None and the words that say why there is none; `text` stands under it.

    box: a window (column, row, width, height) in pixels to mark.
    """

    picture: np.ndarray | None
    text: str = ""
    absent: str = ""
    box: tuple[float, float, float, float] | None = None


def on_white(image: np.ndarray) -> np.ndarray:
    """An RGBA picture (h, w, 4) uint8 with straight alpha on white: (h, w, 3) in [0, 1]."""
    alpha = image[..., 3:].astype(np.float64) / 255
    return image[..., :3] / 255 * alpha + 1 - alpha


@dataclass(frozen=True)
class Gallery:
    """rows[i][j]: cells. lines: of text under each cell; below: further lines under the last row of each column."""

    titles: Sequence[str]
    labels: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    lines: int
    below: Sequence[str] | None = None
    below_lines: int = 0

    def tile(self, width: float) -> float:
        """Side of a picture in inches, in a figure of this width."""
        return (width - LEFT) / len(self.titles)

    def height(self, width: float, note_lines: int) -> float:
        """Inches that the whole takes, with `note_lines` lines of a note under it."""
        rows = len(self.rows) * (self.tile(width) + self.lines * LINE)
        return TITLE + rows + self.below_lines * LINE + note_lines * LINE + 0.12

    def draw(self, made: Figure) -> None:
        """Fill the figure from the top."""
        width, height = made.get_size_inches()
        side = self.tile(width)

        def write(x: float, y: float, text: str, **how: object) -> None:
            made.text(x / width, 1 - y / height, text, **{"fontsize": SMALL, "linespacing": 1.15, **how})

        for j, title in enumerate(self.titles):
            write(LEFT + (j + 0.5) * side, TITLE - 0.03, title, fontsize=FACE - 0.5, ha="center", va="bottom")
        for i, (label, cells) in enumerate(zip(self.labels, self.rows, strict=True)):
            top = TITLE + i * (side + self.lines * LINE)
            write(LEFT - 0.06, top + side / 2, label, rotation=90, ha="right", va="center", color=FAINT)
            for j, cell in enumerate(cells):
                x = LEFT + j * side
                axes = made.add_axes((x / width, 1 - (top + side) / height, side * 0.97 / width, side * 0.97 / height))
                _fill(axes, cell)
                write(x + side * 0.485, top + side + 0.02, cell.text, ha="center", va="top", color=INK)
        bottom = TITLE + len(self.rows) * (side + self.lines * LINE)
        for j, text in enumerate(self.below or ()):
            write(LEFT + (j + 0.485) * side, bottom + 0.04, text, ha="center", va="top")


def _fill(axes: object, cell: Cell) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(cell.picture is None)
        spine.set(color=GRID, linestyle=(0, (3, 2)))
    if cell.picture is None:
        axes.text(
            0.5, 0.5, cell.absent, fontsize=SMALL, color=FAINT, ha="center", va="center", transform=axes.transAxes
        )
        return
    axes.imshow(cell.picture, interpolation="antialiased", aspect="equal")
    if cell.box is not None:
        x, y, w, h = cell.box
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=INK, linewidth=0.7))
