"""Read a mesh file into plain arrays, or say in one sentence why it cannot be used.

Reads .obj .ply .stl .off .glb .gltf with trimesh. Scenes are merged with their node transforms and keep their
textures. No code in the file is run, and a mesh's materials and textures are read from its own folder alone, or from
folders that the caller names.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.box import LONGEST_SIDE
from data.texture import Texture, merged, texture_of

EXTENSIONS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
MAX_FACES = 500_000  # a heavier mesh costs minutes and memory for no visible gain at our resolutions: quarantined
MAX_BYTES = 1 << 30  # read nothing larger: a million-face OBJ is about 100 MB
FLAT = 1e-4  # thinnest side over longest side below which a mesh is called flat
GREY = (204, 204, 204, 255)  # parts without a colour in a scene where others have one

logging.getLogger("trimesh").setLevel(logging.ERROR)  # what it warns about is either harmless or caught below


class BadMesh(Exception):  # noqa: N818 - the word of the quarantine list, shared by all rooms
    """A mesh that cannot be used; the message is the reason, for a person."""


@dataclass
class RawMesh:
    """A triangle mesh: `vertices` (n, 3) float64, `faces` (m, 3) int64, `colours` (n, 4) uint8 or None.

    `texture`: images on the faces, where there are some; a face without one shows its vertices' colours.
    `solid`: known to be a closed, consistently oriented manifold without overlap of its parts, so that inside and
    outside can be asked by rays.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray | None = None
    solid: bool = False
    texture: Texture | None = None


def read_mesh(path: str | Path, *, max_faces: int = MAX_FACES, textures: Sequence[str | Path] = ()) -> RawMesh:
    """The mesh in a file, checked by `validate`; raises `BadMesh`.

    textures: folders in which its textures are looked for after its own.
    """
    path = Path(path)
    _check_file(path, max_faces)
    import trimesh

    from data.beside import files_beside

    try:
        loaded = trimesh.load(path, process=False, resolver=files_beside(path, textures))
    except MemoryError:
        raise
    except Exception as error:  # trimesh raises anything at all on broken files
        detail = re.sub(r"\s+", " ", str(error)).strip()[:120]
        raise BadMesh(f"cannot be read as {path.suffix}: {detail or type(error).__name__}") from error
    parts = [part for part in _parts(loaded) if len(part.faces)]
    if not parts:
        what = "a point cloud" if isinstance(loaded, trimesh.PointCloud) else "no faces in it"
        raise BadMesh(f"no triangles: {what}")
    mesh = _merge(parts)
    return validate(mesh, max_faces=max_faces)


def _check_file(path: Path, max_faces: int) -> None:
    """Cheap checks before any parser runs: it exists, is a mesh format, has that format's first bytes, is not huge."""
    try:
        there = path.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have, a folder that may not be entered
        raise BadMesh(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if not there:
        raise BadMesh("the file is missing")
    suffix = path.suffix.lower()
    if suffix not in EXTENSIONS:
        raise BadMesh(f"the extension {suffix or '(none)'} is not one of {' '.join(EXTENSIONS)}")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise BadMesh(f"cannot be opened: {error.strerror}") from error
    if size == 0:
        raise BadMesh("the file is empty")
    if size > MAX_BYTES:
        raise BadMesh(f"the file has {size / 2**30:.1f} GiB, more than the limit of {MAX_BYTES / 2**30:.0f} GiB")
    is_format = _sniff(head, size)
    silent = is_format is None and suffix in (".obj", ".off", ".stl")  # formats that may begin with anything
    either = is_format == "gltf" and suffix in (".gltf", ".glb")
    if not (silent or either or f".{is_format}" == suffix):
        found = f"looks like .{is_format}" if is_format else f"is not {suffix}"
        raise BadMesh(f"wrong extension: the content {found}, the name ends in {suffix}")
    announced = _announced_faces(head, suffix, size)
    if announced > max_faces:
        raise BadMesh(f"{announced:,} faces, more than the limit of {max_faces:,}: decimate it first")


def _sniff(head: bytes, size: int) -> str | None:
    """The format that the first bytes of a file tell, or None where they do not (OBJ, and OFF without its word)."""
    if head[:4] == b"glTF":
        return "glb"
    if re.match(rb"ply\s", head):
        return "ply"
    if re.match(rb"\s*(ST|C|N|4|n)*OFF\b", head):
        return "off"
    if len(head) >= 84 and 84 + 50 * int.from_bytes(head[80:84], "little") == size:
        return "stl"
    if re.match(rb"\s*solid\b", head) and re.search(rb"\bfacet\s+normal\b", head):
        return "stl"
    if re.match(rb"(\xef\xbb\xbf)?\s*\{", head):
        return "gltf"
    return None


def _announced_faces(head: bytes, suffix: str, size: int) -> int:
    """How many faces the header promises (PLY and binary STL), else 0; spares the parsing of monsters."""
    if suffix == ".ply":
        match = re.search(rb"element\s+face\s+(\d+)", head)
        return int(match.group(1)) if match else 0
    if suffix == ".stl" and _sniff(head, size) == "stl" and not head.lstrip().startswith(b"solid"):
        return (size - 84) // 50
    return 0


def _parts(loaded) -> list[RawMesh]:
    """The triangle meshes of a trimesh object, each with the transform of its node applied."""
    import trimesh

    if isinstance(loaded, trimesh.Trimesh):
        return [_plain(loaded, None)]
    if not isinstance(loaded, trimesh.Scene):
        return []
    parts = []
    for node in loaded.graph.nodes_geometry:
        matrix, name = loaded.graph[node]
        geometry = loaded.geometry[name]
        if isinstance(geometry, trimesh.Trimesh):
            parts.append(_plain(geometry, np.asarray(matrix, dtype=np.float64)))
    return parts


def _plain(mesh, matrix: np.ndarray | None) -> RawMesh:
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    faces = np.asarray(mesh.faces, dtype=np.int64)
    if matrix is not None:
        vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
        if np.linalg.det(matrix[:3, :3]) < 0:  # a mirror turns the faces inside out
            faces = faces[:, ::-1]
    texture = texture_of(mesh, turned=matrix is not None and np.linalg.det(matrix[:3, :3]) < 0)
    return RawMesh(vertices, faces, None if texture else _colours(mesh), texture=texture)


def _colours(mesh) -> np.ndarray | None:
    """Vertex colours (n, 4) uint8 from vertex or face colours or material; None where there are none."""
    visual = mesh.visual
    try:
        if visual.kind == "texture":
            visual = visual.to_color()
        if visual.kind not in ("vertex", "face"):
            return None
        colours = np.asarray(visual.vertex_colors, dtype=np.uint8)
    except Exception:  # a broken texture must not cost the shape
        return None
    if colours.ndim == 1:
        colours = np.tile(colours, (len(mesh.vertices), 1))
    return colours if colours.shape == (len(mesh.vertices), 4) else None


def _merge(parts: list[RawMesh]) -> RawMesh:
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts[:-1], strict=True)])
    texture = merged([part.texture for part in parts], [len(part.faces) for part in parts])
    if all(part.colours is None for part in parts):
        return RawMesh(vertices, faces, texture=texture)
    grey = np.array(GREY, dtype=np.uint8)
    colours = [np.tile(grey, (len(p.vertices), 1)) if p.colours is None else p.colours for p in parts]
    return RawMesh(vertices, faces, np.concatenate(colours), texture=texture)


def validate(mesh: RawMesh, *, max_faces: int = MAX_FACES) -> RawMesh:
    """The mesh without degenerate faces and unused or doubled vertices; raises `BadMesh` if nothing usable is left."""
    vertices, faces = mesh.vertices, mesh.faces
    if len(faces) == 0:
        raise BadMesh("no triangles: no faces in it")
    if len(faces) > max_faces:
        raise BadMesh(f"{len(faces):,} faces, more than the limit of {max_faces:,}: decimate it first")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise BadMesh("a face names a vertex that does not exist")
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    if not np.isfinite(vertices[used]).all():
        raise BadMesh("a vertex has NaN or infinite coordinates")
    extent = np.ptp(vertices[used], axis=0)
    longest = extent.max()
    if longest <= 0:
        raise BadMesh("zero size: all vertices are at one place")
    if not np.isfinite(longest) or longest > 1e100 or longest < 1e-100:
        raise BadMesh(f"its size, {longest:.3g}, is beyond what can be computed with")
    vertices, faces, colours = _weld(vertices, faces, mesh.colours)
    corners = (vertices[faces] - vertices[faces[0, 0]]) / longest
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    kept = np.linalg.norm(normals, axis=1) > 1e-14
    if not kept.any():
        raise BadMesh("degenerate: every triangle has zero area")
    faces = faces[kept]
    texture = None if mesh.texture is None else mesh.texture.of_faces(kept)
    points = vertices[np.unique(faces)]
    centred = (points - points.mean(axis=0)) / longest
    spread = np.ptp(centred @ np.linalg.eigh(centred.T @ centred)[1], axis=0)  # also finds tilted sheets
    if spread.min() < FLAT * spread.max():
        raise BadMesh("flat: it has no volume (a single plane or line)")
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3).astype(np.int64)
    colours = None if colours is None else colours[used]
    return replace(mesh, vertices=vertices[used], faces=faces, colours=colours, texture=texture)


def _weld(vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray | None) -> tuple:
    """Merge vertices that are equal to the last bit (and in colour): STL files repeat each one six times."""
    rows = vertices + 0.0  # -0.0 becomes 0.0, so that equal numbers have equal bytes
    if colours is not None:
        rows = np.concatenate([rows, colours.astype(np.float64)], axis=1)
    rows = np.ascontiguousarray(rows)
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)  # keep the order of the file
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first = first[order]
    return vertices[first], rank[inverse][faces], None if colours is None else colours[first]


def normalise(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(vertices with bounding-box centre 0 and longest side 1.9, centre (3,), scale): v_new = (v - centre) * scale."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    centre = (low + high) / 2
    scale = LONGEST_SIDE / float((high - low).max())
    return (vertices - centre) * scale, centre, scale


def turned_up(mesh: RawMesh, up: str) -> RawMesh:
    """The mesh with +Y up; `up`: the axis that points up in it, y or z."""
    if up == "y":
        return mesh
    x, y, z = mesh.vertices.T
    return replace(mesh, vertices=np.stack([x, z, -y], axis=1))
