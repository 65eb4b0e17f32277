"""Several sources as one dataset: trained on the one, tested on another.

Config mapping: `of`, the names of other datasets (`pipeline.config` puts `parts`, their mappings, in their place).
Each brings all its splits; its objects keep its source's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from data import sources
from data.sources import ObjectSpec

if TYPE_CHECKING:
    from data.load import RawMesh

KEYS = {"source", "of", "parts", "limit", "trained_on"}


def list_objects(source: Mapping[str, Any]) -> list[ObjectSpec]:
    """The objects of all parts, split by split; raises `UserError` for parts that share an object's name."""
    unknown = sorted(set(source) - KEYS)
    if unknown:
        raise UserError(f"the union source does not know {unknown[0]!r}: it reads {', '.join(sorted(KEYS))}")
    kinds = [part["source"] for part in source["parts"]]
    if len(set(kinds)) != len(kinds):
        raise UserError("a union is of different sources: put the lists of one source into one dataset")
    found = [replace(s, part=part["source"]) for part in source["parts"] for s in sources.list_objects(part)]
    names: set[str] = set()
    for spec in found:
        if spec.object in names:
            raise UserError(f"two datasets of a union have an object {spec.object!r}: rename one")
        names.add(spec.object)
    limit = source.get("limit") or {}
    return [spec for split in sources.SPLITS for spec in [s for s in found if s.split == split][: limit.get(split)]]


def part_of(spec: ObjectSpec, source: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping of the part that an object is from."""
    return next(part for part in source["parts"] if part["source"] == spec.part)


def load(spec: ObjectSpec, source: Mapping[str, Any]) -> RawMesh:
    """Make or read one mesh, as its source does; raises `BadMesh`."""
    return sources.load(spec, part_of(spec, source))
