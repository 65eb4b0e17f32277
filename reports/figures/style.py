"""One style for all figures, and how they are saved: vector PDF and PNG, equal bytes for equal figures.

Widths are those of a two-column paper (CVPR). Colours are Paul Tol's high-contrast scheme: told apart by colour-blind
eyes, and by their lightness in grey; line styles and markers say the same once more.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display, the same picture everywhere

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from core.files import atomic_path

COLUMN, TEXT = 3.25, 6.875
"""Width of one column and of the text, in inches."""
FACE = 7  # points, of all text that must be read
SMALL = 6  # points, of notes under a figure
DPI = 300
LINE = SMALL * 1.4 / 72
"""Height of a line of small text, in inches."""

INK, FAINT, GRID = "#000000", "#666666", "#d9d9d9"


@dataclass(frozen=True)
class Mark:
    """How one series is drawn."""

    colour: str
    line: str
    marker: str


MARKS = (
    Mark("#004488", "-", "o"),  # darkest in grey
    Mark("#BB5566", "--", "s"),
    Mark("#DDAA33", ":", "^"),  # lightest
)

SETTINGS = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": FACE,
    "axes.labelsize": FACE,
    "axes.titlesize": FACE,
    "xtick.labelsize": FACE,
    "ytick.labelsize": FACE,
    "legend.fontsize": FACE,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # TrueType, embedded and editable
    "savefig.dpi": DPI,
    "text.parse_math": False,  # labels are words: a $ or _ in a name is itself
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of this size in inches, in the style; closed afterwards."""
    with plt.rc_context({**matplotlib.rcParamsDefault, **SETTINGS, "backend": "agg"}):
        made = plt.figure(figsize=(width, height))
        try:
            yield made
        finally:
            plt.close(made)


def save(made: Figure, stem: Path) -> list[Path]:
    """Write `stem`.pdf and `stem`.png, both without dates or names of programs; returns their paths."""
    nothing = {"pdf": ("Creator", "Producer", "CreationDate"), "png": ("Software",)}
    paths = []
    for kind, names in nothing.items():
        path = stem.with_name(f"{stem.name}.{kind}")
        with atomic_path(path) as temporary:
            made.savefig(temporary, format=kind, metadata=dict.fromkeys(names))
        paths.append(path)
    return paths


def wrapped(text: str, width: float) -> list[str]:
    """Lines of a note that fit this width in inches."""
    return textwrap.wrap(text, int(width * 72 / (0.54 * SMALL)))  # 0.54: the mean width of a letter, in heights


def note(made: Figure, text: str) -> float:
    """Print the rule and the numbers' origin under the figure; returns the height that this takes, as a fraction."""
    lines = wrapped(text, made.get_figwidth())
    place = {"ha": "left", "va": "bottom", "linespacing": 1.25}
    made.text(0.005, 0.02 / made.get_figheight(), "\n".join(lines), fontsize=SMALL, color=FAINT, **place)
    return (len(lines) * LINE + 0.06) / made.get_figheight()
