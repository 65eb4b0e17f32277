"""Stand-ins for pytorch3d and kaolin: the functions used here, by their documented signatures, shapes and checks.

They are strict where the libraries are (types, numbers of dimensions), so that a wrong order or shape fails here as it
would there. They say nothing about the libraries' own code.
"""

from __future__ import annotations

import importlib.machinery
import math
import sys
from collections import namedtuple
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from torch import Tensor

KNN = namedtuple("KNN", "dists idx knn")


def _squares(p1: Tensor, p2: Tensor) -> Tensor:
    assert p1.dtype == p2.dtype and p1.is_floating_point() and p1.ndim == p2.ndim == 3
    assert p1.shape[2] == p2.shape[2] == 3
    assert p1.shape[0] == p2.shape[0]
    return (p1[:, :, None] - p2[:, None]).square().sum(-1)


def knn_points(
    p1, p2, lengths1=None, lengths2=None, norm=2, K=1, version=-1, return_nn=False, return_sorted=True
) -> KNN:
    """pytorch3d.ops.knn_points: squared distances and int64 indices, each (N, P1, K)."""
    assert lengths1 is None and lengths2 is None and norm == 2 and not return_nn and p2.shape[1] >= K
    assert p1.dtype == torch.float32, "there, the CPU kernel takes nothing else"
    dists, idx = _squares(p1, p2).topk(K, dim=2, largest=False)
    return KNN(dists, idx, None)


class Meshes:
    """pytorch3d.structures.Meshes of lists of (V, 3) float32 and (F, 3) int64."""

    def __init__(self, verts, faces, textures=None):
        for v, f in zip(verts, faces, strict=True):
            assert v.dtype == torch.float32 and v.ndim == 2 and f.dtype == torch.int64 and f.ndim == 2
        self.verts, self.faces = verts, faces


def sample_points_from_meshes(meshes, num_samples=10000, return_normals=False, return_textures=False):
    """pytorch3d.ops.sample_points_from_meshes: (N, num_samples, 3), and unit normals of the same shape."""
    points, chosen = sample_points(meshes.verts[0][None], meshes.faces[0], num_samples)
    a, b, c = meshes.verts[0][meshes.faces[0][chosen[0]]].unbind(1)
    normals = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - b), dim=-1)[None]
    return (points, normals) if return_normals else points


class PerspectiveCameras:
    """pytorch3d.renderer.PerspectiveCameras in NDC, of one camera that stands at the origin and looks along +z."""

    def __init__(self, focal_length=1.0, device="cpu"):
        self.focal_length = focal_length


@dataclass
class RasterizationSettings:
    """pytorch3d.renderer.RasterizationSettings."""

    image_size: int = 256
    blur_radius: float = 0.0
    faces_per_pixel: int = 1
    max_faces_per_bin: int | None = None
    perspective_correct: bool | None = None
    cull_backfaces: bool = False


Fragments = namedtuple("Fragments", "pix_to_face")


class MeshRasterizer:
    """pytorch3d.renderer.MeshRasterizer: NDC with +x to the left and +y up, pixels from the upper left.

    As there, a pixel on the edge of a face does not see it unless the blur radius, a squared distance, reaches it.
    """

    def __init__(self, cameras=None, raster_settings=None):
        self.cameras, self.settings = cameras, raster_settings
        assert raster_settings.perspective_correct is not False and raster_settings.faces_per_pixel == 1

    def __call__(self, meshes):
        (vertices,), (faces,), size = meshes.verts, meshes.faces, self.settings.image_size
        assert (vertices[:, 2] > 0).all(), "all of the mesh is before the camera"
        flat = self.cameras.focal_length * vertices[:, :2] / vertices[:, 2:]
        centres = 1 - (2 * torch.arange(size) + 1) / size
        pixels = torch.stack(torch.meshgrid(centres, centres, indexing="ij"), -1).flip(-1)  # x changes along a row
        nearest, found = torch.full((size, size), torch.inf), torch.full((size, size), -1)
        for number, corners in enumerate(faces):
            shares = _barycentric(pixels, flat[corners])
            if shares is None or (self.settings.cull_backfaces and shares[1] < 0):
                continue
            inside = (shares[0] > 0).all(-1)
            blurred = _squared_distance(pixels, flat[corners]) < self.settings.blur_radius
            weights = shares[0].clamp(0) / vertices[corners, 2]
            depth = 1 / (weights.sum(-1) / shares[0].clamp(0).sum(-1))
            closer = (inside | blurred) & (depth < nearest)
            nearest[closer], found[closer] = depth[closer], number
        return Fragments(found[None, :, :, None])


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _barycentric(pixels: Tensor, corners: Tensor) -> tuple[Tensor, Tensor] | None:
    """Shares (h, w, 3) of a triangle's corners (3, 2), and twice its area with its sign; None without area."""
    area = _cross(corners[1] - corners[0], corners[2] - corners[0])
    if abs(area) <= 1e-8:
        return None
    ends = [(corners[(k + 1) % 3], corners[(k + 2) % 3]) for k in range(3)]
    return torch.stack([_cross(b - a, pixels - a) for a, b in ends], -1) / area, area


def _squared_distance(pixels: Tensor, corners: Tensor) -> Tensor:
    """To the outline of a triangle (3, 2), of pixels (h, w, 2)."""
    found = []
    for a, b in zip(corners, corners.roll(-1, 0), strict=True):
        along = ((pixels - a) @ (b - a) / (b - a).square().sum()).clamp(0, 1)
        found.append((a + along[..., None] * (b - a) - pixels).square().sum(-1))
    return torch.stack(found).amin(0)


def sided_distance(p1, p2):
    """kaolin.metrics.pointcloud.sided_distance: squared distances and indices, each (B, P1)."""
    distance, idx = _squares(p1, p2).min(2)
    return distance, idx.int()


def sample_points(vertices, faces, num_samples, areas=None, face_features=None):
    """kaolin.ops.mesh.sample_points: points (B, num_samples, 3) and indices of faces (B, num_samples)."""
    assert vertices.ndim == 3 and faces.ndim == 2 and faces.dtype == torch.int64
    a, b, c = vertices[0][faces].unbind(1)
    area = torch.linalg.cross(b - a, c - a).norm(dim=-1)
    chosen = torch.multinomial(area, num_samples, replacement=True)
    u, v = torch.rand(2, num_samples, 1)
    root = u.sqrt()
    points = (1 - root) * a[chosen] + root * (1 - v) * b[chosen] + root * v * c[chosen]
    return points[None], chosen[None]


def check_sign(verts, faces, points, hash_resolution=512):
    """kaolin.ops.mesh.check_sign: whether a ray from each point meets an odd number of faces, (B, P) bool.

    As in its kernel for CUDA, the ray goes along +x and is ten longest sides of the mesh long; a ray that meets an edge
    is here counted with neither face.
    """
    assert faces.dtype == torch.int64 and verts.ndim == points.ndim == 3 and faces.ndim == 2
    assert verts.shape[2] == faces.shape[1] == points.shape[2] == 3 and verts.dtype == points.dtype
    ray = 10 * (verts[0].amax(0) - verts[0].amin(0)).max()
    count = torch.zeros(points.shape[1], dtype=torch.int64)
    _, y, z = points[0].unbind(1)
    for corners in verts[0][faces]:
        ends = [(corners[i], corners[(i + 1) % 3]) for i in range(3)]
        sides = [(b[1] - a[1]) * (z - a[2]) - (b[2] - a[2]) * (y - a[1]) for a, b in ends]
        within = torch.stack(sides).sign().sum(0).abs() == 3
        normal = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])
        ahead = ((corners[0] - points[0]) * normal).sum(1) / normal[0]
        count += within & (ahead > 0) & (ahead < ray)
    return (count % 2 == 1)[None]


# The corners of a cube are numbered with x in the lowest bit: an edge joins two numbers that differ in one bit.
EDGES = torch.tensor([(corner, corner | bit) for bit in (1, 2, 4) for corner in range(8) if not corner & bit])


class FlexiCubes:
    """kaolin.ops.conversions.FlexiCubes with equal weights, of fields that leave one sheet in each cube.

    A vertex in each cube whose corners differ in sign, at the mean of its edges' crossings; a quadrilateral around each
    crossed edge that four cubes share, its normal towards the positive end.
    """

    def __init__(self, device="cuda"):
        self.device = device

    def __call__(self, voxelgrid_vertices, scalar_field, cube_idx, resolution):
        n = len(voxelgrid_vertices)
        assert voxelgrid_vertices.shape == (n, 3) and scalar_field.shape == (n,) and cube_idx.shape[1:] == (8,)
        assert len(cube_idx) == math.prod(resolution), "there, each cube of the grid has its place"
        inside = scalar_field < 0
        count = inside[cube_idx].sum(1)
        ends = cube_idx[(count > 0) & (count < 8)][:, EDGES]  # (cubes, 12, 2)
        (x0, x1), (s0, s1) = voxelgrid_vertices[ends].unbind(2), scalar_field[ends].unbind(2)
        cut = (s0 < 0) != (s1 < 0)
        crossings = x0 + torch.where(cut, s0 / (s0 - s1), 0)[..., None] * (x1 - x0)
        vertices = (crossings * cut[..., None]).sum(1) / cut.sum(1, keepdim=True)
        cube, edge = cut.nonzero(as_tuple=True)
        # Round an edge along an axis, cubes are told by which of their edges along it this is: 0, 1, 3, 2 goes round.
        order = torch.tensor([0, 1, 3, 2])[edge % 4]
        group = torch.unique(ends[cube, edge], dim=0, return_inverse=True)[1]
        ring = torch.argsort(group * 4 + order)
        shared = torch.bincount(group)[group[ring]] == 4
        quads, first = cube[ring][shared].reshape(-1, 4), ring[shared].reshape(-1, 4)[:, 0]
        # That way round, the normal points along x and z and against y.
        backwards = (edge[first] // 4 == 1) ^ ~inside[ends[cube[first], edge[first], 0]]
        quads[backwards] = quads[backwards].flip(1)
        return vertices, quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3), torch.zeros(len(vertices))


def _module(name: str, **names) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    vars(module).update(names)
    return module


MODULES = {
    "pytorch3d": {
        "pytorch3d": {"__version__": "0.7.9"},
        "pytorch3d.ops": {"knn_points": knn_points, "sample_points_from_meshes": sample_points_from_meshes},
        "pytorch3d.structures": {"Meshes": Meshes},
        "pytorch3d.renderer": {
            "MeshRasterizer": MeshRasterizer,
            "PerspectiveCameras": PerspectiveCameras,
            "RasterizationSettings": RasterizationSettings,
        },
    },
    "kaolin": {
        "kaolin": {"__version__": "0.18.0"},
        "kaolin.ops": {},
        "kaolin.ops.mesh": {"check_sign": check_sign, "sample_points": sample_points},
        "kaolin.ops.conversions": {"FlexiCubes": FlexiCubes},
        "kaolin.metrics": {},
        "kaolin.metrics.pointcloud": {"sided_distance": sided_distance},
    },
}


def install(patch: pytest.MonkeyPatch, name: str) -> None:
    """Put a library's stand-in where `import` finds it, for the time of a test."""
    for module, names in MODULES[name].items():
        patch.setitem(sys.modules, module, _module(module, **names))
