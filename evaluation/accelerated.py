"""pytorch3d and kaolin behind the functions of `evaluation.backends`.

Run with both packages on a CPU, never on a GPU (evaluation/README.md says what exactly): where they are not installed,
tests/evaluation/test_backends.py runs everything against stand-ins that follow their documentation, and against the
packages themselves wherever they import.

pytorch3d 0.7.9: `ops.knn_points(p1 (N, P1, 3), p2 (N, P2, 3), K=1)`, named dists (squared) and idx, each (N, P1, K);
`ops.sample_points_from_meshes(Meshes, num_samples, return_normals=True)`. kaolin 0.18: `metrics.pointcloud.
sided_distance(p1, p2)`, squared distances and indices (N, P1), CUDA only; `ops.mesh.sample_points(vertices (N, V, 3),
faces (F, 3), num_samples)`, points and indices of faces; `ops.mesh.check_sign(verts, faces, points)`, (N, P) bool, its
ray ten longest sides of the mesh long. `sided_distance` and `check_sign` take float32 and float64.
pytorch3d's camera space and NDC have +x to the left, +y up and +z into the picture; the pixel at row 0 and column 0 has
its centre at (1 - 1/size, 1 - 1/size). `renderer.MeshRasterizer(cameras, raster_settings)(meshes).pix_to_face` is
(N, size, size, faces_per_pixel), -1 where nothing is seen.
"""

from __future__ import annotations

import importlib

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def device() -> str:
    """Where a backend runs: `cuda` where torch sees a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def why_not(name: str) -> str:
    """Why an installed backend cannot score here, in words; empty if it can."""
    if name == "kaolin" and not torch.cuda.is_available():
        return "its nearest neighbours need CUDA, and torch sees no GPU"
    return not_importable(name)


def not_importable(name: str) -> str:
    """Why a backend cannot be imported here, in words; empty if it can."""
    try:
        importlib.import_module(f"{name}.ops")
    except (ImportError, OSError, RuntimeError) as error:  # built for another torch or CUDA: found only when it loads
        return f"it cannot be imported: {str(error).splitlines()[0]}"
    return ""


class Index:
    """Nearest neighbours among points (n, 3) float64, by a backend's exhaustive search.

    Two samples that float32 cannot tell apart may lie on faces that look in different directions, and then one wrong
    choice in 100,000 moves normal consistency by 1e-5: the choice is made in float64.
    """

    def __init__(self, points: np.ndarray, backend: str) -> None:
        self._points, self._backend, self._device = points, backend, device()
        self._tensor = _batch(points, self._device, PRECISION[backend])

    def query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (m,) float64 and indices (m,) of the nearest to each of points (m, 3)."""
        asked = _batch(points, self._device, PRECISION[self._backend])
        found = NEAREST[self._backend](asked, self._tensor).cpu().numpy()
        distances = np.linalg.norm(points[:, None] - self._points[found], axis=2)
        best = distances.argmin(axis=1)
        each = np.arange(len(points))
        return distances[each, best], found[each, best]


def _nearest_pytorch3d(points: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    from pytorch3d.ops import knn_points

    return knn_points(points, among, K=min(2, among.shape[1])).idx[0]


def _nearest_kaolin(points: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    from kaolin.metrics.pointcloud import sided_distance

    return sided_distance(points, among)[1][0].long()[:, None]


NEAREST = {"pytorch3d": _nearest_pytorch3d, "kaolin": _nearest_kaolin}
"""(points (1, m, 3), among (1, n, 3)) -> indices (m, k) of the nearest one or two, by backend."""
PRECISION = {"pytorch3d": np.float32, "kaolin": np.float64}
"""Of the coordinates searched. pytorch3d's CPU kernel has float32 alone, and gives two candidates; kaolin gives one."""


def draw(
    vertices: np.ndarray, faces: np.ndarray, n: int, rng: np.random.Generator, backend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Points and unit normals, each (n, 3) float64, uniform over the area; the seed of the draws is taken from `rng`.

    Coordinates have the backend's float32. Faces without area are left out before.
    """
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces = faces[np.linalg.norm(normals, axis=1) > 0]
    place = device()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if place == "cuda" else []):
        torch.manual_seed(int(rng.integers(2**63)))  # both libraries draw from torch's global generator
        points, directions = DRAW[backend](
            _batch(vertices, place)[0], torch.from_numpy(faces.astype(np.int64)).to(place), n
        )
    directions = directions.double().cpu().numpy()
    return points.double().cpu().numpy(), directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _draw_pytorch3d(vertices: torch.Tensor, faces: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    from pytorch3d.ops import sample_points_from_meshes
    from pytorch3d.structures import Meshes

    points, normals = sample_points_from_meshes(Meshes(verts=[vertices], faces=[faces]), n, return_normals=True)
    return points[0], normals[0]


def _draw_kaolin(vertices: torch.Tensor, faces: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    from kaolin.ops.mesh import sample_points

    points, chosen = sample_points(vertices[None], faces, n)
    a, b, c = vertices[faces[chosen[0]]].unbind(1)
    return points[0], torch.linalg.cross(b - a, c - a)


DRAW = {"pytorch3d": _draw_pytorch3d, "kaolin": _draw_kaolin}
"""(vertices (v, 3), faces (f, 3), n) -> points (n, 3) and normals (n, 3) of any length, by backend."""


ON_AN_EDGE = 1e-9
"""Squared distance in NDC, 0.02 pixels at 1024: without it a pixel whose centre lies on an edge sees neither face."""


def visible(points: np.ndarray, faces: np.ndarray, *, tangent: float, size: int) -> np.ndarray:
    """Which face each pixel of a picture sees from both sides, by pytorch3d; see `evaluation.backends.visible`."""
    from pytorch3d.renderer import MeshRasterizer, PerspectiveCameras, RasterizationSettings
    from pytorch3d.structures import Meshes

    place = device()
    turned = _batch(points * [-1, 1, -1], place)[0]
    settings = RasterizationSettings(
        image_size=size,
        blur_radius=ON_AN_EDGE,
        faces_per_pixel=1,
        max_faces_per_bin=len(faces),  # of a bin that holds more, the surplus would be lost
        perspective_correct=True,
        cull_backfaces=False,
    )
    rasterise = MeshRasterizer(PerspectiveCameras(focal_length=1 / tangent, device=place), settings)
    solid = torch.from_numpy(faces.astype(np.int64)).to(place)
    return rasterise(Meshes(verts=[turned], faces=[solid])).pix_to_face[0, :, :, 0].cpu().numpy()


MOST_PARTS = 32
"""Each takes a call of `check_sign`; a mesh of more parts is left to the CPU path."""
NUDGE = np.array([2e-8, 1e-8, 4e-8])
"""Of a cell, added to its centre. The CPU path counts a centre that lies on a face as if it lay a little further along
z, and one beside a face as if a little further along x and then y; kaolin has other rules for ties, or none."""


def inside(cells: np.ndarray, faces: np.ndarray, resolution: int) -> np.ndarray | None:
    """Which cells have their centre inside a watertight mesh, by kaolin; see `evaluation.backends.inside`.

    `check_sign` counts crossings, and where two closed parts overlap their number is even. A winding number is the sum
    over parts, each with the sign of its volume, so parts are asked for one by one; this holds for every mesh of which
    no single part crosses itself. Each is asked only about its bounding box: from farther away the ray might end in it.
    """
    part = _parts(faces)
    if _repeats_a_face(faces) or part.max() >= MOST_PARTS:
        return None
    winding = np.zeros((resolution,) * 3, dtype=np.int8)
    for number in range(part.max() + 1):
        corners = cells[faces[part == number]]
        low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
        first = np.clip(np.ceil(low - NUDGE), 0, resolution).astype(int)
        end = np.clip(np.floor(high - NUDGE) + 1, 0, resolution).astype(int)
        if (first >= end).any():
            continue
        middle = np.round((low + high) / 2)
        centres = [np.arange(*span) + shift for span, shift in zip(zip(first, end, strict=True), NUDGE, strict=True)]
        points = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
        odd = _odd(corners - middle, (points - middle).reshape(-1, 3)).reshape(points.shape[:3])
        a, b, c = (corners - middle).swapaxes(0, 1)
        sign = np.int8(-1 if np.vdot(np.cross(a, b), c) < 0 else 1)
        winding[tuple(slice(*span) for span in zip(first, end, strict=True))] += sign * odd
    return winding != 0


def _parts(faces: np.ndarray) -> np.ndarray:
    """Numbers (m,) from 0 of the parts that faces (m, 3) are of; a part hangs together by edges, not by corners alone.

    Of a mesh in which every edge is met as often in one direction as in the other, each part is such a mesh.
    """
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    keys, edge = np.unique(edges[:, 0] * (faces.max() + 1) + edges[:, 1], return_inverse=True)
    n = len(faces)
    links = (np.repeat(np.arange(n), 3), n + edge)
    graph = coo_matrix((np.ones(3 * n, dtype=np.int8), links), shape=(n + len(keys),) * 2)
    return connected_components(graph, directed=False)[1][:n]  # faces come first, and every edge has one


def _repeats_a_face(faces: np.ndarray) -> bool:
    """Whether a face is met twice the same way round: its part then winds twice round what parity calls outside."""
    start = faces.argmin(axis=1)[:, None]
    turned = np.take_along_axis(faces, (start + np.arange(3)) % 3, axis=1)
    turned = turned[np.lexsort(turned.T)]
    return bool((turned[1:] == turned[:-1]).all(axis=1).any())


def _odd(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether a ray from each of points (p, 3) crosses an odd number of triangles (m, 3, 3), (p,) bool.

    kaolin divides by the longest side of all vertices, and then compares outlines of faces in float32: two more
    vertices, of no face, make that side a power of two, so that what lies on whole or half cells stays there.
    """
    from kaolin.ops.mesh import check_sign

    half = np.exp2(np.ceil(np.log2(np.abs(corners).max())))
    vertices = np.concatenate([corners.reshape(-1, 3), [[-half] * 3, [half] * 3]])
    place, numbers = device(), torch.arange(3 * len(corners)).reshape(-1, 3)
    vertices = _batch(vertices, place, np.float64)
    return check_sign(vertices, numbers.to(place), _batch(points, place, np.float64))[0].cpu().numpy()


def _batch(points: np.ndarray, place: str, precision: type = np.float32) -> torch.Tensor:
    """(n, 3) as a batch of one, (1, n, 3) contiguous."""
    return torch.from_numpy(np.ascontiguousarray(points, dtype=precision))[None].to(place)
