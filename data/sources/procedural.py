"""The procedural source: objects made from a seed, so that the benchmark runs with no download.

Config mapping: `counts` ({train, val, test}: n), `held_out_family` and optionally `families` (the ones to use; all if
not given). Object number i of a split is of family i mod n, so any first part of a split is balanced; in `test` every
`HELD_OUT_EVERY`-th object is of the held-out family, which is in no other split. An object depends on its name alone
(`train-chair-00012`): another count or list of families changes which objects there are, never what one looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.randomness import numpy_rng
from data.sources import SPLITS, ObjectSpec

if TYPE_CHECKING:
    from data.load import RawMesh

FAMILIES = (
    "airplane", "arch", "bottle", "bowl", "bracket", "bridge", "chain", "chair", "csg", "gear", "hammer", "house",
    "key", "ladder", "lamp", "mug", "rocket", "shelf", "sofa", "spectacles", "stool", "table", "teapot", "truck",
    "vase", "wheel",
)  # fmt: skip
HELD_OUT_EVERY = 8
ATTEMPTS = 8  # a draw of parameters that does not make one good solid is drawn again
MIN_VOLUME = 1e-4  # of the object over that of its bounding cube; below it, occupancy says nothing
KEYS = {"source", "counts", "held_out_family", "families"}


def list_objects(source: Mapping[str, Any]) -> list[ObjectSpec]:
    """The objects of the configured splits, in order; raises `UserError` for an unknown family, split or key."""
    unknown = set(source) - KEYS
    if unknown:
        raise UserError(
            f"the procedural source does not know {sorted(unknown)[0]!r}: it reads {', '.join(sorted(KEYS))}"
        )
    held_out = source.get("held_out_family")
    families = tuple(source.get("families") or FAMILIES)
    for family in (*families, *([held_out] if held_out else [])):
        if family not in FAMILIES:
            raise UserError(f"unknown family {family!r}: choose from {', '.join(FAMILIES)}")
    seen = [family for family in families if family != held_out]
    if not seen:
        raise UserError("no family is left to train on: `families` must name more than the held-out one")
    counts = source["counts"]
    if set(counts) - set(SPLITS):
        raise UserError(f"`counts` names a split that is not one of {', '.join(SPLITS)}")
    return [_spec(split, i, seen, held_out) for split in SPLITS for i in range(int(counts.get(split, 0)))]


def _spec(split: str, number: int, families: list[str], held_out: str | None) -> ObjectSpec:
    family = families[number % len(families)]
    if held_out and split == "test":
        rounds, place = divmod(number, HELD_OUT_EVERY)
        is_held_out = place == HELD_OUT_EVERY - 1
        family = held_out if is_held_out else families[(number - rounds) % len(families)]
    return ObjectSpec(f"{split}-{family}-{number:05d}", split, family, "procedural", licence="CC0-1.0")


def load(spec: ObjectSpec, source: Mapping[str, Any]) -> RawMesh:
    """Make the mesh of one object; raises `BadMesh` if no attempt gave a good solid."""
    return make(spec.object)


def make(name: str) -> RawMesh:
    """The solid mesh of the object `{split}-{family}-{number}`: +Y up, front towards +Z, any size.

    Closed, oriented outwards and free of overlaps (manifold3d sees to it). Raises `BadMesh`.
    """
    import numpy as np

    from data.load import BadMesh, RawMesh
    from data.sources.families import BUILDERS, MANY_PIECES

    family = name.split("-")[1]
    for attempt in range(ATTEMPTS):
        solid = BUILDERS[family](numpy_rng("procedural", name, attempt))
        if family not in MANY_PIECES:
            solid = max(solid.decompose(), key=lambda piece: piece.volume(), default=solid)
        if solid.is_empty():
            continue
        x0, y0, z0, x1, y1, z1 = solid.bounding_box()
        if solid.volume() < MIN_VOLUME * max(x1 - x0, y1 - y0, z1 - z0) ** 3:
            continue
        mesh = solid.to_mesh64()
        return RawMesh(
            np.ascontiguousarray(mesh.vert_properties[:, :3], dtype=np.float64),
            np.ascontiguousarray(mesh.tri_verts, dtype=np.int64),
            solid=True,
        )
    raise BadMesh(f"the family {family} made no solid in {ATTEMPTS} attempts")
