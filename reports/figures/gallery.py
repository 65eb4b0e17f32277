"""A table of pictures: titles above the columns, a label beside each row, a line of numbers under each picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reports.figures.style import FACE, FAINT, GRID, INK, LINE, SMALL, wrapped

LEFT = 0.42  # inches, of the rows' labels
TITLE_LINE = FACE * 1.3 / 72  # inches, of a line of the columns' titles


@dataclass(frozen=True)
class Cell:
    """One picture (h, w, 3) in [0, 1], or None and the words that say why there is none; `text` stands under it.

    box: a window (column, row, width, height) in pixels to mark; ring: a point (column, row) to mark. edged: with a
    thin frame, for a part of a picture, whose white would run into the page.
    """

    picture: np.ndarray | None
    text: str = ""
    absent: str = ""
    box: tuple[float, float, float, float] | None = None
    ring: tuple[float, float] | None = None
    edged: bool = False


def framed(pictures: Sequence[np.ndarray], margin: float = 0.03) -> tuple[float, float, float]:
    """The square that holds all that is not white in any picture (h, h, 3): left, top and side, as fractions."""
    size = len(pictures[0])
    seen = np.any([(picture < 0.99).any(-1) for picture in pictures], axis=0)
    if not seen.any():
        return 0.0, 0.0, 1.0
    spans = [np.flatnonzero(seen.any(axis))[[0, -1]] + (0, 1) for axis in (0, 1)]  # columns, then rows
    side = min(max(high - low for low, high in spans) + 2 * margin * size, size)
    left, top = (float(np.clip((low + high - side) / 2, 0, size - side)) / size for low, high in spans)
    return left, top, float(side) / size


def cut(picture: np.ndarray, frame: tuple[float, float, float]) -> np.ndarray:
    """The part of a picture (h, h, 3) in a frame of `framed`."""
    left, top, side = (round(part * len(picture)) for part in frame)
    return picture[top : top + side, left : left + side]


def on_white(image: np.ndarray) -> np.ndarray:
    """An RGBA picture (h, w, 4) uint8 with straight alpha on white: (h, w, 3) in [0, 1]."""
    alpha = image[..., 3:].astype(np.float64) / 255
    return image[..., :3] / 255 * alpha + 1 - alpha


@dataclass(frozen=True)
class Gallery:
    """rows[i][j]: cells. lines: of text under each cell; below: further lines under the last row of each column.

    objects: the object and view of each row.
    """

    titles: Sequence[str]
    labels: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    objects: Sequence[tuple[str, int]]
    lines: int
    below: Sequence[str] | None = None
    below_lines: int = 0

    def tile(self, width: float) -> float:
        """Side of a picture in inches, in a figure of this width."""
        return (width - LEFT) / len(self.titles)

    def heads(self, width: float) -> list[str]:
        """The titles, broken into lines that fit their columns."""
        letters = max(8, int(self.tile(width) * 72 / (0.58 * FACE)))
        return ["\n".join(textwrap.wrap(title, letters)) for title in self.titles]

    def top(self, width: float) -> float:
        """Inches that the titles take."""
        return (1 + max(head.count("\n") for head in self.heads(width))) * TITLE_LINE + 0.06

    def height(self, width: float, note: str) -> float:
        """Inches that the whole takes, with this note under it."""
        rows = len(self.rows) * (self.tile(width) + self.lines * LINE)
        return self.top(width) + rows + (self.below_lines + len(wrapped(note, width))) * LINE + 0.12

    def draw(self, made: Figure) -> None:
        """Fill the figure from the top."""
        width, height = made.get_size_inches()
        side = self.tile(width)

        def write(x: float, y: float, text: str, **how: object) -> None:
            made.text(x / width, 1 - y / height, text, **{"fontsize": SMALL, "linespacing": 1.15, **how})

        start = self.top(width)
        for j, head in enumerate(self.heads(width)):
            write(LEFT + (j + 0.485) * side, start - 0.03, head, fontsize=FACE, ha="center", va="bottom")
        for i, (label, cells) in enumerate(zip(self.labels, self.rows, strict=True)):
            top = start + i * (side + self.lines * LINE)
            letters = int((side + self.lines * LINE) * 72 / (0.62 * SMALL)) - 1
            named = "\n".join(shortened(line, letters) for line in label.split("\n"))
            write(LEFT - 0.06, top + side / 2, named, rotation=90, ha="right", va="center", color=FAINT)
            for j, cell in enumerate(cells):
                x = LEFT + j * side
                axes = made.add_axes((x / width, 1 - (top + side) / height, side * 0.97 / width, side * 0.97 / height))
                _fill(axes, cell)
                write(x + side * 0.485, top + side + 0.02, cell.text, ha="center", va="top", color=INK)
        bottom = start + len(self.rows) * (side + self.lines * LINE)
        for j, text in enumerate(self.below or ()):
            write(LEFT + (j + 0.485) * side, bottom + 0.04, text, ha="center", va="top")


def shortened(text: str, letters: int) -> str:
    """The text in at most that many letters: what is too long loses its middle."""
    if len(text) <= letters:
        return text
    end = (letters - 1) // 2
    return f"{text[: letters - 1 - end]}…{text[len(text) - end :]}"


def _fill(axes: Axes, cell: Cell) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(cell.picture is None or cell.edged)
        spine.set(color=GRID, linestyle=(0, (3, 2)) if cell.picture is None else "-")
    if cell.picture is None:
        axes.text(
            0.5, 0.5, cell.absent, fontsize=SMALL, color=FAINT, ha="center", va="center", transform=axes.transAxes
        )
        return
    axes.imshow(cell.picture, interpolation="antialiased", aspect="equal")
    if cell.box is not None:
        x, y, w, h = cell.box
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=INK, linewidth=0.7, clip_on=False))
    if cell.ring is not None:
        x, y = cell.ring
        for colour, width in (("white", 1.8), (INK, 0.8)):  # seen on light and on dark
            axes.plot(x - 0.5, y - 0.5, "o", markersize=9, fillstyle="none", color=colour, markeredgewidth=width)
