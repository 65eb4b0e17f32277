"""Objaverse 1.0: 800,000 models of Sketchfab (Deitke et al. 2023), each under its own licence.

Below the root as the `objaverse` package keeps them: `hf-objaverse-v1/glbs/{folder}/{uid}.glb`; the folder is known
when an object has been acquired. Up is +Y, as glTF says. Keys: data/sources/listed.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data.sources import ObjectSpec, listed

if TYPE_CHECKING:
    from data.load import RawMesh

UP = "y"
LICENCES = ("cc0", "by", "by-sa")  # as Sketchfab writes them; those that let the derived data be passed on


def list_objects(source: Mapping[str, Any]) -> list[ObjectSpec]:
    """The objects of the lists; raises `UserError` for a wrong mapping or list."""
    return listed.specs_of(source, "objaverse")


def load(spec: ObjectSpec, source: Mapping[str, Any]) -> RawMesh:
    """Read one model, whose `path` is known since it was acquired; raises `BadMesh`."""
    return listed.read(spec, source, spec.path, up=UP)
