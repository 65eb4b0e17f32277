"""Whether a coarse-to-fine extraction gave the mesh of the dense grid, and when that can be known beforehand.

A certificate. Let the logit change by at most L_a a unit of length along the edges of the last grid that run along
axis a, and let the last grid have spacing e, the coarsest h. A cell of the last grid that the surface crosses has
corners of both signs, so |logit| <= (L_x + L_y + L_z) e at each. The node that a corner came from on the grid before
lies at most e from it along each axis, the one before that 2 e, and so on down to the coarsest grid: e + e + 2 e + ...
+ h / 2 = h along each axis in all. Every step is an edge of the last grid, so on that way |logit| <= (L_x + L_y + L_z)
h. With

    band > (L_x + L_y + L_z) h                                                                                  (1)

each of these nodes is active in its grid, so all corners of crossed cells are evaluated; and a node that is not has the
sign of the node that it copies. On the next grid spacing and band are half, and (1) is the same. Marching cubes then
gives the dense mesh, and no part of it can be lost. Where (1) fails, a component that lies between coarse nodes, all of
them farther from 0 than the band, may be lost; one of which an edge was found is followed, and is that of the dense
mesh.
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
    """Cells of the grid on which `methods.layers.extraction.evaluate` begins."""
    while cells % 2 == 0 and cells // 2 >= coarsest:
        cells //= 2
    return cells


def diagonal_change(values: np.ndarray) -> float:
    """L_x + L_y + L_z of node values (n, n, n): each the largest change along any edge of its axis, a unit of length.

    The steps of (1) are different edges, so each axis has its largest anywhere. A function that changes by at most L a
    unit in every direction has at most sqrt(3) L.
    """
    spacing = 2 * BOUND / (len(values) - 1)
    return sum(float(np.abs(np.diff(values, axis=axis)).max()) for axis in range(3)) / spacing


def band_needed(change: float, cells: int, coarsest: int) -> float:
    """The right side of (1) for a grid of `coarsest` cells, in logits; 0 where the first grid is already the last.

    A first grid with more cells has a band that is narrower in proportion, and so is what it needs.
    """
    return 0.0 if coarsest_of(cells, coarsest) == cells else change * 2 * BOUND / coarsest


def certified(change: float, cells: int, coarsest: int, band: float) -> bool:
    """Whether (1) holds, so that nothing can be lost. change: `diagonal_change` of the last grid."""
    return band > band_needed(change, cells, coarsest)


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
