"""The dense grid that an extraction is measured against: its nodes, its values, and the least that has to be known."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.shapes import shape_of
from methods.layers.coarse_to_fine import Field, ends
from methods.layers.extraction import nodes, surface


@dataclass
class Counted:
    """A field that counts the points it is asked for."""

    field: Field
    points: int = 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.points += len(points)
        return self.field(points)


def layer(cells: int, first: int) -> np.ndarray:
    """The nodes ((cells + 1)^2, 3) float32 of one layer of a dense grid, in the order of its flat array."""
    side = np.arange(cells + 1)
    return nodes(np.stack(np.meshgrid([first], side, side, indexing="ij"), -1).reshape(-1, 3), cells)


def layers(cells: int, every: int = 1) -> Iterator[np.ndarray]:
    """Every so many-th layer of the grid."""
    return (layer(cells, first) for first in range(0, cells + 1, every))


def dense_values(field: Field, cells: int) -> np.ndarray:
    """The field at every node, (cells + 1,)^3 float32."""
    return np.concatenate([field(points) for points in layers(cells)]).reshape((cells + 1,) * 3)


@functools.cache
def dense_mesh(name: str, cells: int) -> tuple[tuple[np.ndarray, np.ndarray] | None, int]:
    """The mesh of a closed form on the dense grid, and how many of its nodes it needs at least; made once."""
    values = dense_values(shape_of(name).field, cells)
    return surface(values), needed(values)


def needed(values: np.ndarray) -> int:
    """How many nodes are ends of edges that the surface crosses: fewer cannot give the vertices of the dense mesh."""
    return int(ends(values).sum())
