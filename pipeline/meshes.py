"""The mesh files of a run's objects, for a bundle that is prepared where it is unpacked.

Points, occupancy and pictures of an object are many times its mesh, and hardly compress. Shards that another machine
prepares from the same meshes may differ from those here in the last bit (another CPU, other instructions), so two runs
are of the same data if they are `made_from` the same.
"""

from __future__ import annotations

from pathlib import Path

from core.errors import UserError
from core.files import sha256_of
from core.identity import params_key, source_hash
from data.sources import DOWNLOADED
from pipeline.dag import Dag


def mesh_files(dag: Dag) -> dict[Path, str]:
    """The files that a folder's objects are read from, by name in that folder; none for objects that are made.

    Those that are missing or lead out of the folder are left out, as they are when they are prepared.
    """
    if dag.source["source"] != "folder":
        return {}
    root = Path(dag.source["root"])
    found = {root / spec.path: spec.path for spec in dag.objects if spec.path}
    return {path: name for path, name in found.items() if path.is_file() and path.resolve().is_relative_to(root)}


def made_from(dag: Dag) -> str | None:
    """Key of the meshes, the list, the parameters and the code of a run's data; None where meshes are downloaded."""
    if dag.source["source"] in DOWNLOADED:
        return None
    meshes = {name: sha256_of(path) for path, name in mesh_files(dag).items()}
    code = source_hash(*dag.PREPARE_CODE)
    return params_key({"prepared": Path(dag.prepared).name, "code": code, "meshes": meshes}, length=32)


def check_alone(dag: Dag) -> None:
    """Raises UserError if the mesh files alone do not make the data of a run."""
    if dag.source["source"] in DOWNLOADED:
        raise UserError(f"the objects of {dag.dataset} are downloaded: on the other machine too, or pack the shards")
    if dag.config["prepare"]["shading"] == "texture":
        raise UserError("--meshes takes no textures along, and prepare.shading is texture: pack the shards")
