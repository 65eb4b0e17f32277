"""OmniObject3D: 6,000 textured scans of 190 categories (Wu et al. 2023), the raw scans.

Below the root as published: `raw_scans/{category}/{object}/Scan/Scan.obj` beside its `.mtl` and `.jpg`, where object
is `{category}_{number}`, for example `anise_001`. Up is +Y. Keys: data/sources/listed.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data.sources import ObjectSpec, listed

if TYPE_CHECKING:
    from data.load import RawMesh

UP = "y"
LICENCE = "CC-BY-4.0"
ATTRIBUTION = "OmniObject3D (Wu et al. 2023)"


def category_of(object: str) -> str:
    """The category in the name of an object: `toy_car` of `toy_car_012`."""
    return object.rpartition("_")[0] or object


def path_of(object: str) -> str:
    """Where an object's mesh is, below the root."""
    return f"raw_scans/{category_of(object)}/{object}/Scan/Scan.obj"


def list_objects(source: Mapping[str, Any]) -> list[ObjectSpec]:
    """The objects of the lists; raises `UserError` for a wrong mapping or list."""
    specs = listed.specs_of(source, "omniobject3d", licence=LICENCE, attribution=ATTRIBUTION)
    return [spec if spec.category else replace(spec, category=category_of(spec.object)) for spec in specs]


def load(spec: ObjectSpec, source: Mapping[str, Any]) -> RawMesh:
    """Read one scan; raises `BadMesh`."""
    return listed.read(spec, source, path_of(spec.object), up=UP)
