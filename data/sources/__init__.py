"""Where meshes come from: `procedural` and `folder`, behind two functions.

`list_objects` is cheap and imports no geometry package (Snakemake calls it each time it parses the workflow);
`load` makes or reads one mesh. A new source is one file here with these two functions and a line in `SOURCES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import UserError

if TYPE_CHECKING:
    from data.load import RawMesh

SPLITS = ("train", "val", "test")
SOURCES = {"procedural": "data.sources.procedural", "folder": "data.sources.folder"}


@dataclass(frozen=True)
class ObjectSpec:
    """One object of a dataset, before it is loaded.

    `object` is unique in its dataset and safe as a file name; `path` is relative to the root of a folder source
    (None where there is no file); `split` is one of `SPLITS`.
    """

    object: str
    split: str
    category: str
    source: str
    path: str | None = None
    licence: str = ""
    attribution: str = ""


def _module(source: Mapping[str, Any]):
    name = source.get("source")
    if name not in SOURCES:
        raise UserError(f"unknown source {name!r}: choose one of {', '.join(SOURCES)}")
    return importlib.import_module(SOURCES[name])


def list_objects(source: Mapping[str, Any]) -> list[ObjectSpec]:
    """Every object of the dataset that `source` (its config mapping) describes, in a stable order.

    Raises `UserError` if the mapping or its index is wrong. Loads no mesh.
    """
    return _module(source).list_objects(source)


def load(spec: ObjectSpec, source: Mapping[str, Any]) -> RawMesh:
    """Make or read the mesh of one object, as its maker left it (not normalised); raises `BadMesh` with a reason."""
    return _module(source).load(spec, source)
