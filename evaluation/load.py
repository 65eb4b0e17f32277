"""Any mesh file to clean triangles (step 1 of the protocol).

All geometry of a scene is merged with its transforms, vertices closer than 1e-8 are welded, vertices that are
not finite and faces that lost their area by welding go. No component is filtered away.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

WELD = 1e-8
LEAST_FACES = 4  # the fewest that can bound a volume


class MeshError(Exception):
    """Why a mesh cannot be scored, in words a person understands."""


@dataclass(frozen=True)
class Triangles:
    """A clean mesh. vertices: (n, 3) float64, all used. faces: (m, 3) int64, at least `LEAST_FACES`.

    watertight: every directed edge is met by its opposite as often, so that the faces bound a volume and
    agree on its outside. components: parts connected through shared vertices.
    """

    vertices: np.ndarray
    faces: np.ndarray
    watertight: bool
    components: int


def read(path: str | Path) -> Triangles:
    """Read a mesh file of any format that trimesh knows. Raises `MeshError` with the reason."""
    path = Path(path)
    if not path.is_file():
        raise MeshError("the mesh file is missing" if not path.exists() else "the path is not a file")
    import trimesh  # as slow to import as pandas: tables need rows, and no meshes

    level = logging.getLogger("trimesh").level
    logging.getLogger("trimesh").setLevel(logging.CRITICAL)
    try:
        mesh = trimesh.load_scene(path, process=False).to_mesh()
    except Exception as error:  # the readers of trimesh raise whatever their parser stumbles on
        words = " ".join(str(error).split())[:200]
        raise MeshError(f"the file cannot be read as a mesh ({type(error).__name__}: {words})") from error
    finally:
        logging.getLogger("trimesh").setLevel(level)
    return clean(mesh.vertices, mesh.faces)


def clean(vertices: np.ndarray, faces: np.ndarray) -> Triangles:
    """Weld, drop what is not finite or degenerate. Raises `MeshError` if fewer than four faces with area are left.

    vertices: (n, 3) numbers. faces: (m, 3) integers.
    """
    vertices = np.asarray(vertices, dtype=np.float64).reshape(-1, 3)
    faces = np.asarray(faces, dtype=np.int64).reshape(-1, 3)
    if len(faces) == 0:
        raise MeshError("the mesh is empty")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MeshError("faces refer to vertices that do not exist")
    given = len(faces)
    faces = faces[np.isfinite(vertices).all(axis=1)[faces].all(axis=1)]
    finite = len(faces)
    vertices, faces = _weld(vertices, faces)
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    solid = _areas(vertices, faces) > 0
    if np.count_nonzero(solid) < LEAST_FACES:
        lost = f", and {given - finite} of {given} have corners that are not finite" if finite < given else ""
        raise MeshError(f"fewer than {LEAST_FACES} faces have an area{lost}")
    # Faces whose corners lie on a line are never sampled, but stay: without them a closed mesh would not be closed. One
    # that reaches a vertex of no other face goes: it would stretch the box, and closes nothing.
    held = np.zeros(len(vertices), dtype=bool)
    held[faces[solid]] = True
    vertices, faces = _used(vertices, faces[solid | held[faces].all(axis=1)])
    return Triangles(vertices, faces, _watertight(faces), _components(faces, len(vertices)))


def _areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Twice the area of each face, (m,)."""
    corners = vertices[faces]
    with np.errstate(over="ignore", invalid="ignore"):
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not np.isfinite(areas).all():
        raise MeshError("coordinates are too large to measure")
    return areas


def _used(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices that a face has, in their order, and the faces numbered anew."""
    index, faces_of_index = np.unique(faces, return_inverse=True)
    return vertices[index], faces_of_index.reshape(-1, 3)


def _weld(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the used vertices that fall into one cell of side `WELD`; the first of them stays as it is."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    index = np.flatnonzero(used)
    if len(index) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64)
    cells = np.round(vertices[index] / WELD)
    order = np.lexsort(cells.T)
    new = np.ones(len(index), dtype=bool)
    new[1:] = (np.diff(cells[order], axis=0) != 0).any(axis=1)
    group = np.empty(len(index), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    target = np.zeros(len(vertices), dtype=np.int64)
    target[index] = group
    return vertices[index[order[new]]], target[faces]


def _watertight(faces: np.ndarray) -> bool:
    """Whether the boundary of the sum of all faces is zero: no border, and neighbours agree on the outside."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    low, high = edges.min(axis=1), edges.max(axis=1)
    keys, inverse = np.unique(low * (faces.max() + 1) + high, return_inverse=True)
    balance = np.bincount(inverse, weights=np.where(edges[:, 0] == low, 1.0, -1.0), minlength=len(keys))
    return not balance.any()


def _components(faces: np.ndarray, n_vertices: int) -> int:
    links = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(links), dtype=np.int8), links.T), shape=(n_vertices, n_vertices))
    _, labels = connected_components(graph, directed=False)
    return len(np.unique(labels[faces[:, 0]]))
