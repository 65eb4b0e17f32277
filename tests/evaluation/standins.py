"""Stand-ins for pytorch3d and kaolin: the functions used here, by their documented signatures, shapes and checks.

They are strict where the libraries are (types, numbers of dimensions), so that a wrong order or shape fails here as it
would there. They say nothing about the libraries' own code.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections import namedtuple
from types import ModuleType

import pytest
import torch
from torch import Tensor

KNN = namedtuple("KNN", "dists idx knn")


def _squares(p1: Tensor, p2: Tensor) -> Tensor:
    assert p1.dtype == p2.dtype == torch.float32 and p1.ndim == p2.ndim == 3 and p1.shape[2] == p2.shape[2] == 3
    assert p1.shape[0] == p2.shape[0]
    return (p1[:, :, None] - p2[:, None]).square().sum(-1)


def knn_points(
    p1, p2, lengths1=None, lengths2=None, norm=2, K=1, version=-1, return_nn=False, return_sorted=True
) -> KNN:
    """pytorch3d.ops.knn_points: squared distances and int64 indices, each (N, P1, K)."""
    assert lengths1 is None and lengths2 is None and norm == 2 and not return_nn
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
    """kaolin.ops.mesh.check_sign: whether a ray along +z from each point meets an odd number of faces, (B, P) bool."""
    assert faces.dtype == torch.int64 and verts.ndim == points.ndim == 3 and faces.ndim == 2
    assert verts.shape[2] == faces.shape[1] == points.shape[2] == 3
    corners, p = verts[0][faces].double(), points[0].double()
    x, y = p[:, None, 0], p[:, None, 1]
    signs = []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, end = corners[None, :, i], corners[None, :, j]
        side = (end[..., 0] - start[..., 0]) * (y - start[..., 1]) - (end[..., 1] - start[..., 1]) * (x - start[..., 0])
        signs.append(side > 0)
    within = (signs[0] == signs[1]) & (signs[1] == signs[2])
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[None]
    offset = p[:, None] - corners[None, :, 0]
    height = (normal * offset).sum(-1) / normal[..., 2]  # how far above the plane, along z
    return ((within & (height < 0)).sum(1) % 2 == 1)[None]


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
    },
    "kaolin": {
        "kaolin": {"__version__": "0.18.0"},
        "kaolin.ops": {},
        "kaolin.ops.mesh": {"check_sign": check_sign, "sample_points": sample_points},
        "kaolin.metrics": {},
        "kaolin.metrics.pointcloud": {"sided_distance": sided_distance},
    },
}


def install(patch: pytest.MonkeyPatch, name: str) -> None:
    """Put a library's stand-in where `import` finds it, for the time of a test."""
    for module, names in MODULES[name].items():
        patch.setitem(sys.modules, module, _module(module, **names))
