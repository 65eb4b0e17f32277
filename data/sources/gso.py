"""Google Scanned Objects: 1,030 textured scans of household objects (Downs et al. 2022).

Below the root as in the archives: `{object}/meshes/model.obj`, `{object}/materials/textures/texture.png`. Up is +Z.
The materials name the texture as if it lay beside the mesh. Keys: data/sources/listed.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data.sources import ObjectSpec, listed

if TYPE_CHECKING:
    from data.load import RawMesh

UP = "z"
LICENCE = "CC-BY-4.0"
ATTRIBUTION = "Google Research, Google Scanned Objects (Downs et al. 2022)"


def path_of(object: str) -> str:
    """Where an object's mesh is, below the root."""
    return f"{object}/meshes/model.obj"


def list_objects(source: Mapping[str, Any]) -> list[ObjectSpec]:
    """The objects of the lists; raises `UserError` for a wrong mapping or list."""
    return listed.specs_of(source, "gso", licence=LICENCE, attribution=ATTRIBUTION)


def load(spec: ObjectSpec, source: Mapping[str, Any]) -> RawMesh:
    """Read one scan; raises `BadMesh`."""
    return listed.read(spec, source, path_of(spec.object), up=UP, textures=["../materials/textures"])
