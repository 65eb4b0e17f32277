"""pytorch3d and kaolin behind the functions of `evaluation.backends`.

Run with both packages on a CPU, never on a GPU (evaluation/README.md says what exactly): where they are not installed,
tests/evaluation/test_backends.py runs everything against stand-ins that follow their documentation, and against the
packages themselves wherever they import.

pytorch3d 0.7.9: `ops.knn_points(p1 (N, P1, 3), p2 (N, P2, 3), K=1)`, named dists (squared) and idx, each (N, P1, K);
`ops.sample_points_from_meshes(Meshes, num_samples, return_normals=True)`. kaolin 0.18: `metrics.pointcloud.
sided_distance(p1, p2)`, squared distances and indices (N, P1), CUDA only; `ops.mesh.sample_points(vertices (N, V, 3),
faces (F, 3), num_samples)`, points and indices of faces; `ops.mesh.check_sign(verts, faces, points)`, (N, P) bool.
pytorch3d's camera space and NDC have +x to the left, +y up and +z into the picture; the pixel at row 0 and column 0 has
its centre at (1 - 1/size, 1 - 1/size). `renderer.MeshRasterizer(cameras, raster_settings)(meshes).pix_to_face` is
(N, size, size, faces_per_pixel), -1 where nothing is seen.
"""

from __future__ import annotations

import importlib

import numpy as np
import torch

from core.errors import UserError


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
    """Nearest neighbours among points (n, 3) float64, by a backend's exhaustive search in float32."""

    def __init__(self, points: np.ndarray, backend: str) -> None:
        self._points, self._backend, self._device = points, backend, device()
        self._tensor = _batch(points, self._device)

    def query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (m,) float64 and indices (m,) of the nearest to each of points (m, 3)."""
        nearest = NEAREST[self._backend](_batch(points, self._device), self._tensor).cpu().numpy()
        return np.linalg.norm(points - self._points[nearest], axis=1), nearest


def _nearest_pytorch3d(points: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    from pytorch3d.ops import knn_points

    return knn_points(points, among, K=1).idx[0, :, 0]


def _nearest_kaolin(points: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    from kaolin.metrics.pointcloud import sided_distance

    return sided_distance(points, among)[1][0].long()


NEAREST = {"pytorch3d": _nearest_pytorch3d, "kaolin": _nearest_kaolin}
"""(points (1, m, 3), among (1, n, 3)) -> indices (m,) of the nearest, by backend."""


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


def inside(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which of points (m, 3) a ray leaves through an odd number of faces, by kaolin; (m,) bool.

    That is inside for a watertight mesh whose parts do not overlap. Where they do, it calls the overlap outside, which
    a winding number does not: volume IoU therefore stays with `evaluation.occupancy`.
    """
    if why := not_importable("kaolin"):
        raise UserError(f"inside tests by kaolin cannot be made here: {why}")
    from kaolin.ops.mesh import check_sign

    place = device()
    solid = torch.from_numpy(faces.astype(np.int64)).to(place)
    return check_sign(_batch(vertices, place), solid, _batch(points, place))[0].cpu().numpy()


def _batch(points: np.ndarray, place: str) -> torch.Tensor:
    """(n, 3) as a batch of one, (1, n, 3) float32 contiguous."""
    return torch.from_numpy(np.ascontiguousarray(points, dtype=np.float32))[None].to(place)
