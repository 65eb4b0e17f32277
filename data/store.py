"""Prepared shards: many objects in one safetensors file, read at random through a memory map.

`{folder}/{split}/{index:05d}.safetensors` holds stacked arrays and a JSON header; data/README.md lists them.
Write with `write_shard`, read with `Split`. No pickle, no torch.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from core.errors import UserError
from core.files import atomic_path
from core.randomness import seed_of
from data.quantise import decode_normals, decode_positions, encode_positions, query_positions, query_positions_at
from data.views import View

FORMAT = 1
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class PreparedObject:
    """One object, ready to be stored: what `data.prepare` makes and `write_shard` takes."""

    about: dict[str, str]  # object, category, source, path, licence, attribution
    seed: int  # of the query positions
    points: np.ndarray  # (N, 3) uint16
    normals: np.ndarray  # (N, 2) uint8
    labels: np.ndarray  # (volume + near,) bool: inside the solid
    vertices: np.ndarray  # (n, 3) uint16
    faces: np.ndarray  # (m, 3) int
    views: list[View]
    pictures: dict[str, list[bytes]] = field(default_factory=dict)  # image, and normal and depth where kept


def encode_mesh(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a canonical mesh: vertices that fall on one code are welded, faces that collapse are dropped."""
    codes = encode_positions(vertices)
    words = codes.astype(np.uint64) @ np.array([1, 1 << 16, 1 << 32], np.uint64)
    _, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # keep the order in which vertices first appear
    codes, faces = codes[np.sort(first)], order[inverse.reshape(-1)][faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    used, faces = np.unique(faces[whole], return_inverse=True)
    return codes[used], faces.reshape(-1, 3)


def _concatenate(parts: list[np.ndarray], empty: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(np.int64)
    return np.concatenate([empty, *parts]), offsets


def write_shard(path: str | Path, params: dict[str, Any], objects: list[PreparedObject]) -> None:
    """Write a shard atomically; no objects at all is legal (all were left out). Same arguments, same bytes."""
    n, n_views = params["points"], params["azimuths"] * (1 + params["rotations"])
    queries = params["volume"] + params["near"]
    wide = any(len(o.vertices) > 65535 for o in objects)
    face_type = np.uint32 if wide else np.uint16
    views = [view for o in objects for view in o.views]

    def stack(rows: list[Any], dtype: type, *shape: int) -> np.ndarray:
        return np.ascontiguousarray(np.array(rows, dtype).reshape(-1, *shape))

    arrays = {
        "points": stack([o.points for o in objects], np.uint16, n, 3),
        "normals": stack([o.normals for o in objects], np.uint8, n, 2),
        "occupancy": stack([np.packbits(o.labels) for o in objects], np.uint8, (queries + 7) // 8),
        "seed": stack([o.seed for o in objects], np.int64),
        "view_rotation": stack([v.rotation for v in views], np.float32, n_views, 3, 3),
        "view_scale": stack([v.scale for v in views], np.float32, n_views),
        "view_offset": stack([v.offset for v in views], np.float32, n_views, 3),
        "view_elevation": stack([v.elevation for v in views], np.float32, n_views),
        "view_azimuth": stack([v.azimuth for v in views], np.float32, n_views),
    }
    arrays["vertices"], arrays["vertex_offsets"] = _concatenate(
        [o.vertices for o in objects], np.empty((0, 3), np.uint16)
    )
    faces = [o.faces.astype(face_type) for o in objects]
    arrays["faces"], arrays["face_offsets"] = _concatenate(faces, np.empty((0, 3), face_type))
    for kind in ("image", *params["keep"]):
        blobs = [np.frombuffer(blob, np.uint8) for o in objects for blob in o.pictures[kind]]
        arrays[kind], arrays[f"{kind}_offsets"] = _concatenate(blobs, np.empty(0, np.uint8))
    header = {"format": FORMAT, "params": params, "objects": [o.about for o in objects]}
    with atomic_path(path) as temporary:
        # One metadata entry only: safetensors writes several in an order that changes from run to run.
        save_file(arrays, temporary, metadata={"shard": json.dumps(header, sort_keys=True)})


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a shard; a UserError that names the remedy if the file is not a whole shard."""
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})["shard"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path} is not a readable shard ({error}): delete it and prepare again") from error
    if header["format"] != FORMAT:
        raise UserError(f"{path} has format {header['format']}, this code reads {FORMAT}: delete it and prepare again")
    return header


def shard_paths(folder: str | Path, split: str) -> list[Path]:
    """The shards of a split in order; a UserError if there are none or one in between is missing."""
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    place = Path(folder) / split
    paths = sorted(place.glob("[0-9][0-9][0-9][0-9][0-9].safetensors"))
    if not paths:
        raise UserError(
            f"no prepared shards in {place}: run `python -m data prepare --source procedural --out {folder}` first"
            " (or let snakemake do it)"
        )
    for index, path in enumerate(paths):
        if path.stem != f"{index:05d}":
            raise UserError(f"shard {index:05d} of {place} is missing: run the same `python -m data prepare` again")
    return paths


class Split:
    """All objects of one split, in a stable order; nothing is read before it is asked for.

    May be handed to worker processes: open files are not carried along, each process opens its own.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.folder, self.name = Path(folder), split
        self.paths = shard_paths(folder, split)
        headers = [read_header(path) for path in self.paths]
        self.params: dict[str, Any] = headers[0]["params"]
        for path, header in zip(self.paths, headers, strict=True):
            if header["params"] != self.params:
                raise UserError(f"{path} was prepared with other parameters than {self.paths[0]}: prepare all again")
        self.about: list[dict[str, str]] = [about for header in headers for about in header["objects"]]
        self.objects = [about["object"] for about in self.about]
        self.categories = [about["category"] for about in self.about]
        self.n_views: int = self.params["azimuths"] * (1 + self.params["rotations"])
        self.upright_views = list(range(self.params["azimuths"]))
        self.image_size: int = self.params["image_size"]
        self.drawn: int = self.params.get("drawn", self.params["points"])  # surface points that a method reads at once
        self._place = [(s, row) for s, header in enumerate(headers) for row in range(len(header["objects"]))]
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.objects)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def of_phase(self, phase: str) -> list[int]:
        """The objects (indices) for one phase of a training in phases; one that names no phase is for all of them."""
        named = [about.get("phases", "").split() for about in self.about]
        return [i for i, phases in enumerate(named) if not phases or phase in phases]

    def _rows(self, name: str, shard: int, start: int, stop: int) -> np.ndarray:
        if shard not in self._open:
            self._open[shard] = safe_open(self.paths[shard], framework="np")
        return self._open[shard].get_slice(name)[start:stop]

    def _row(self, name: str, i: int) -> np.ndarray:
        shard, row = self._place[i]
        return self._rows(name, shard, row, row + 1)[0]

    def _ragged(self, name: str, offsets: str, i: int, v: int = 0, per_object: int = 1) -> np.ndarray:
        shard, row = self._place[i]
        entry = row * per_object + v
        start, stop = self._rows(offsets, shard, entry, entry + 2).tolist()
        return self._rows(name, shard, start, stop)

    def surface(self, i: int, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Points and unit normals (n, 3) at rows of the stored ones (all), which lie in random order.

        Any rows are thus a random sample; no others are decoded.
        """
        return decode_positions(self._row("points", i)[rows]), decode_normals(self._row("normals", i)[rows])

    def occupancy(self, i: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Query positions (Q, 3), labels (Q,) (true: inside), and how many of them, the first, fill the volume."""
        volume, near = self.params["volume"], self.params["near"]
        surface = decode_positions(self._row("points", i))
        seed, sigmas = int(self._row("seed", i)), tuple(self.params["sigmas"])
        positions = query_positions(surface, seed=seed, volume=volume, near=near, sigmas=sigmas)
        labels = np.unpackbits(self._row("occupancy", i), count=volume + near).astype(bool)
        return positions, labels, volume

    def occupancy_at(self, i: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) int64 of the positions (n, 3) and labels (n,) of `occupancy`."""
        volume, near = self.params["volume"], self.params["near"]
        surface, sigmas = decode_positions(self._row("points", i)), tuple(self.params["sigmas"])
        seed = int(self._row("seed", i))
        positions = query_positions_at(rows, surface, seed=seed, volume=volume, near=near, sigmas=sigmas)
        return positions, np.unpackbits(self._row("occupancy", i), count=volume + near).astype(bool)[rows]

    def view_tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rotation (n, v, 3, 3), scale (n, v) and offset (n, v, 3) of every view of every object, f32."""
        counts = np.bincount([shard for shard, _ in self._place], minlength=len(self.paths))
        return tuple(
            np.concatenate([self._rows(f"view_{name}", shard, 0, int(n)) for shard, n in enumerate(counts) if n])
            for name in ("rotation", "scale", "offset")
        )

    def mesh(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (n, 3) f32 and faces (m, 3) i32 of the normalised mesh as it was loaded, not the watertight one."""
        vertices = decode_positions(self._ragged("vertices", "vertex_offsets", i))
        return vertices, self._ragged("faces", "face_offsets", i).astype(np.int32)

    def view(self, i: int, v: int) -> View:
        """View `v` of object `i`."""
        if not 0 <= v < self.n_views:
            raise IndexError(f"view {v} of {self.n_views}")
        rotation, scale, offset, elevation, azimuth = (
            self._row(f"view_{name}", i)[v] for name in ("rotation", "scale", "offset", "elevation", "azimuth")
        )
        return View(rotation, float(scale), offset, float(elevation), float(azimuth), v in self.upright_views)

    def image(self, i: int, v: int) -> np.ndarray:
        """Condition image (h, w, 4) uint8, RGBA with straight alpha."""
        return np.asarray(self._picture("image", i, v).convert("RGBA"))

    def normal(self, i: int, v: int) -> np.ndarray:
        """Normals of the view frame (h, w, 3) f32, zero off the object; only if prepared with keep: [normal]."""
        codes = np.asarray(self._picture("normal", i, v).convert("RGB")).astype(np.float32)
        return np.where(codes.any(-1, keepdims=True), codes / 127.5 - 1, np.float32(0))

    def depth(self, i: int, v: int) -> np.ndarray:
        """Depth along the camera's axis (h, w) f32, zero off the object; only if prepared with keep: [depth]."""
        return np.asarray(self._picture("depth", i, v)).astype(np.float32) / 8192

    def _picture(self, kind: str, i: int, v: int) -> Image.Image:
        if kind != "image" and kind not in self.params["keep"]:
            raise UserError(f"{self.folder} holds no {kind} pictures: prepare it again with `keep: [{kind}]`")
        if not 0 <= v < self.n_views:
            raise IndexError(f"view {v} of {self.n_views}")
        return Image.open(io.BytesIO(self._ragged(kind, f"{kind}_offsets", i, v, self.n_views).tobytes()))

    def sample(self, i: int, v: int) -> Sample:
        """Object `i` seen in view `v`."""
        return Sample(self, i, v)


@dataclass(frozen=True)
class Sample:
    """One object in one view; geometry in the view frame, read when it is asked for."""

    split: Split
    index: int
    view_index: int

    @property
    def object(self) -> str:
        """The object's name."""
        return self.split.objects[self.index]

    @property
    def category(self) -> str:
        """The object's category, or an empty string."""
        return self.split.categories[self.index]

    @cached_property
    def view(self) -> View:
        """How the object is turned in this view."""
        return self.split.view(self.index, self.view_index)

    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Points and normals, (`split.drawn`, 3) f32 each: always the first ones of those that are stored."""
        points, normals = self.split.surface(self.index, slice(self.split.drawn))
        return self.view.apply(points), self.view.rotate(normals)

    def occupancy(self) -> tuple[np.ndarray, np.ndarray, int]:
        """As `Split.occupancy`; the volume rows fill the turned box."""
        positions, labels, volume = self.split.occupancy(self.index)
        return self.view.apply(positions), labels, volume

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (n, 3) f32 and faces (m, 3) i32."""
        vertices, faces = self.split.mesh(self.index)
        return self.view.apply(vertices), faces

    def image(self) -> np.ndarray:
        """The condition image (h, w, 4) uint8, RGBA with straight alpha."""
        return self.split.image(self.index, self.view_index)


def evaluation_views(split: Split, n: int) -> list[tuple[int, int]]:
    """`n` upright views of every object, as (object index, view index); chosen by a hash of the object's name."""
    available = len(split.upright_views)
    if not 1 <= n <= available:
        raise UserError(f"{n} evaluation views asked, but objects of {split.folder} have {available} upright ones")
    pairs = []
    for i, name in enumerate(split.objects):
        order = sorted(split.upright_views, key=lambda v, name=name: seed_of("evaluation view", name, v))
        pairs.extend((i, v) for v in sorted(order[:n]))
    return pairs
