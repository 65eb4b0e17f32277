"""Whether a coarse-to-fine extraction gave the mesh of the dense grid, and when that can be known beforehand.

A certificate. Let the logit change by at most L a unit of length along the edges of the last grid, whatever their
axis, and let a grid have spacing h. Between the ends of one of its edges it then changes by at most L h, and on the way
from either end to the middle by half of that. If the ends p and q are of one sign, the middle m has

    |f(m)| >= (|f(p)| + |f(q)| - L h) / 2

of the same sign, as long as the right side is above 0. With

    change >= L h                                                                                               (1)

on the grid to which `change` belongs, and so, both being halved, on all that follow, that is what the extraction takes
for granted (methods/layers/coarse_to_fine.py): each node that was not asked has the right sign, and a value that is no
farther from 0 than the field; one that is far has neighbours that are. So the signs of the last grid are those of the
field, no part of the surface is lost, and as both ends of each crossed edge were asked, its vertices are those of the
dense mesh, but for the one that marching cubes puts inside some ambiguous cells, which depends on all eight corners.
The field is taken to be outside on the outer layer of nodes, where the extraction puts it. Where (1) fails, a part
between nodes of a coarser grid may be lost; one of which an edge was found is followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from core.box import BOUND

Triangulation = tuple[np.ndarray, np.ndarray]
"""Vertices (v, 3), faces (f, 3)."""


@dataclass(frozen=True)
class Difference:
    """Between two meshes. lost, gained: components. farthest: of any vertex to the nearest one of the other mesh."""

    lost: int
    gained: int
    farthest: float


def coarsest_of(cells: int, coarsest: int) -> int:
    """Cells of the grid on which `methods.layers.coarse_to_fine.evaluate` begins."""
    while cells % 2 == 0 and cells // 2 >= coarsest:
        cells //= 2
    return cells


def steepest(values: np.ndarray) -> float:
    """L of node values (n, n, n): the largest change along any edge, a unit of length.

    A function that changes by at most L a unit in every direction has at most L.
    """
    spacing = 2 * BOUND / (len(values) - 1)
    return max(float(np.abs(np.diff(values, axis=axis)).max()) for axis in range(3)) / spacing


def change_needed(steepest: float, cells: int, coarsest: int) -> float:
    """The right side of (1) for a grid of `coarsest` cells, in logits; 0 where the first grid is already the last.

    On a first grid with more cells an edge may change less in proportion, and so does it.
    """
    return 0.0 if coarsest_of(cells, coarsest) == cells else steepest * 2 * BOUND / coarsest


def certified(steepest: float, cells: int, coarsest: int, change: float) -> bool:
    """Whether (1) holds, so that nothing can be lost. steepest: of the last grid."""
    return change >= change_needed(steepest, cells, coarsest)


def components(mesh: Triangulation) -> np.ndarray:
    """For each vertex the number of its component, (v,); the components are counted from 0."""
    vertices, faces = mesh
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (len(vertices),) * 2)
    return connected_components(graph, directed=False)[1]


def difference(found: Triangulation | None, dense: Triangulation | None, tolerance: float) -> Difference:
    """How `found` differs from `dense`.

    A component of one is lost (or gained) if the other has no vertex within the tolerance of any of its vertices.
    """
    if found is None or dense is None:
        lost = 0 if dense is None else int(components(dense).max()) + 1
        gained = 0 if found is None else int(components(found).max()) + 1
        return Difference(lost, gained, math.inf if lost or gained else 0.0)
    to_found = cKDTree(found[0]).query(dense[0])[0]
    to_dense = cKDTree(dense[0]).query(found[0])[0]
    lost, gained = (_absent(mesh, far, tolerance) for mesh, far in ((dense, to_found), (found, to_dense)))
    return Difference(lost, gained, float(max(to_found.max(), to_dense.max())))


def _absent(mesh: Triangulation, far: np.ndarray, tolerance: float) -> int:
    label = components(mesh)
    nearest = np.full(label.max() + 1, np.inf)
    np.minimum.at(nearest, label, far)
    return int((nearest > tolerance).sum())
