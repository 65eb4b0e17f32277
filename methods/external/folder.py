"""A folder of meshes made elsewhere: where it is, which file is which object and view, what is missing or stray.

Pure and free of heavy imports: the DAG lists the files too, since a new or changed mesh must be scored again.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.identity import ROOT
from data.names import object_name

EXTENSIONS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")

View = tuple[str, int]
"""An object's id and the number of a view."""


@dataclass(frozen=True)
class Found:
    """What a folder holds of the views that were asked for. `files`: one for each view that has a mesh; `strays`:
    mesh files that belong to no view; `missing`: views without a file. The last two are sorted."""

    files: Mapping[View, Path]
    strays: tuple[Path, ...]
    missing: tuple[View, ...]


def root_of(params: Mapping[str, Any], dataset: str) -> Path:
    """The folder that `params.root` names for a dataset. Raises UserError if none is named."""
    if not params["root"]:
        raise UserError("params.root names no folder: set it in the config.yaml of a method of `kind: external`")
    filled = _filled(params["root"], {"dataset": dataset}, "root")
    return Path(os.path.normpath(ROOT / Path(filled).expanduser()))


def mesh_files(root: Path) -> list[Path]:
    """Every mesh file under a folder, sorted; hidden files are not looked at. Empty where there is no folder."""
    visible = (path for path in root.rglob("*") if not path.name.startswith("."))
    return sorted(path for path in visible if path.suffix.lower() in EXTENSIONS and path.is_file())


def key_of(pattern: str, object: str, view: int) -> str:
    """Path of a view's mesh below the root, without the ending. Raises UserError for a faulty pattern."""
    values = {"name": object_name(object), "object": object, "view": f"{view:02d}"}
    return _filled(pattern, values, "pattern")


def match(root: Path, paths: Iterable[Path], pattern: str, views: Sequence[View]) -> Found:
    """Find each view's file. Raises UserError where two files are the mesh of one view, or the pattern names no object.

    A pattern without {view} gives all views of an object the same file.
    """
    named = [field for _, field, _, _ in string.Formatter().parse(pattern)]
    if not {"name", "object"} & set(named):
        raise UserError(f"params.pattern {pattern!r} names no object: put {{name}} or {{object}} into it")
    wanted = {view: key_of(pattern, *view) for view in views}
    keys, held, strays = set(wanted.values()), {}, []
    for path in paths:
        key = path.relative_to(root).with_suffix("").as_posix()
        if key not in keys:
            strays.append(path)
        elif key in held:
            raise UserError(f"{held[key]} and {path} are both the mesh of {key}: keep one of them")
        else:
            held[key] = path
    files = {view: held[key] for view, key in wanted.items() if key in held}
    return Found(files, tuple(sorted(strays)), tuple(sorted(view for view in views if view not in files)))


def _filled(template: str, values: Mapping[str, str], param: str) -> str:
    try:
        return template.format(**values)
    except (KeyError, IndexError, ValueError) as error:
        fields = ", ".join(f"{{{name}}}" for name in values)
        raise UserError(f"params.{param} is {template!r}, in which only {fields} may stand in braces") from error
