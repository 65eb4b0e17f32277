"""What a generated mesh must be, and the file it is kept in (binary PLY)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from core.files import atomic_path
from data.names import view_name
from methods.contract import Mesh

LIMIT = 1.2
"""Largest absolute coordinate allowed: fields live in [-1.05, 1.05]^3, true meshes in [-0.95, 0.95]^3."""

_FACE = np.dtype([("count", "u1"), ("corners", "<i4", (3,))])


def fault(mesh: Mesh) -> str | None:
    """Why this mesh cannot be scored, in words, or None if it can."""
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        return f"the mesh has vertices {vertices.shape} and faces {faces.shape} instead of (n, 3) and (m, 3)"
    if len(vertices) == 0 or len(faces) == 0:
        return "the mesh is empty"
    if not np.isfinite(vertices).all():
        return "the mesh has vertices that are not finite"
    if faces.min() < 0 or faces.max() >= len(vertices):
        return f"the mesh has faces that name vertices outside 0..{len(vertices) - 1}"
    largest = float(np.abs(vertices).max())
    if largest > LIMIT:
        return f"the mesh leaves the box: a coordinate of {largest:.2f}, allowed are {LIMIT}"
    return None


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write a triangle mesh as binary little-endian PLY, atomically. vertices (n, 3), faces (m, 3)."""
    rows = np.empty(len(faces), _FACE)
    rows["count"], rows["corners"] = 3, faces
    header = (
        "ply\nformat binary_little_endian 1.0\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(header.encode() + np.ascontiguousarray(vertices, "<f4").tobytes() + rows.tobytes())


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read what `write_ply` wrote: vertices (n, 3) float32 and faces (m, 3) int32."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    n, m = (int(count) for count in re.findall(rb"element \w+ (\d+)", header))
    vertices = np.frombuffer(body, "<f4", 3 * n).reshape(n, 3).copy()
    return vertices, np.frombuffer(body, _FACE, m, offset=12 * n)["corners"].copy()


def file_name(object: str, view: int) -> str:
    """The file name of the mesh of an object's view."""
    return f"{view_name(object, view)}.ply"
