"""Meshes made by a system outside of this project, read from a folder and brought into the view frame.

The stage `index` remembers what the condition image of each test view looks like (a hash of its pixels). `generate`
is handed images like every method; the hash says which object and view an image is, and the folder's file of that
name is the answer. A view without a file is a failure with the reason `missing`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from core.errors import UserError
from core.files import atomic_path
from data.load import BadMesh, normalise, read_mesh
from data.store import Split, evaluation_views
from methods.contract import Failure, Mesh, PreparedData
from methods.external import folder, frame

MISSING = "missing"
MAX_FACES = 20_000_000  # beyond what any system writes: other people's meshes are not decimated here


def image_hash(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels (h, w, 4) uint8."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


class External:
    """One stage, `index`: the dataset's name and, for each upright test view, object, view and hash of the image."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Hash the test images; no shape is looked at."""
        split = Split(data.folder, "test")
        first = set(evaluation_views(split, 1))  # an object's first evaluation view leads: the log names its file
        views = sorted(
            ((i, v) for i in range(len(split)) for v in split.upright_views), key=lambda pair: pair not in first
        )
        hashes = [[split.objects[i], v, image_hash(split.image(i, v))] for i, v in views]
        index = json.dumps({"dataset": data.dataset, "views": hashes})
        with atomic_path(out / "weights.safetensors") as temporary:
            save_file({"views": np.array(views, np.int32)}, temporary, {"index": index})

    def load(self, stages: Mapping[str, Path], device: str) -> External:
        """Read the index and look into the folder; what is missing or stray is said on standard error.

        Raises UserError if there is no such folder, or if two files are the mesh of one view.
        """
        with safe_open(stages["index"] / "weights.safetensors", framework="np") as file:
            index = json.loads(file.metadata()["index"])
        self.rotation = frame.rotation(self.params["up"], self.params["front"])
        root = folder.root_of(self.params, index["dataset"])
        if not root.is_dir():
            raise UserError(f"there is no folder {root}: put the meshes there, or set params.root")
        views = [(object, view) for object, view, _ in index["views"]]
        self.found = folder.match(root, folder.mesh_files(root), self.params["pattern"], views)
        self.views: dict[str, list[folder.View]] = {}
        for object, view, digest in index["views"]:
            self.views.setdefault(digest, []).append((object, view))
        print(described(root, self.found, views, self.params["pattern"]), file=sys.stderr)
        return self

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Any] | None = None,
    ) -> list[Mesh | Failure]:
        """The mesh of each image, +Y up, its box centred and its longest side 1.9."""
        return [self._answer(image) for image in images]

    def _answer(self, image: np.ndarray) -> Mesh | Failure:
        views = self.views.get(image_hash(image))
        if views is None:
            raise UserError("an image is not in the index: the test data have changed, fit the stage `index` again")
        # Views that look the same to the last bit are one question; if of several objects, each must have a file.
        files = {object: self.found.files.get((object, view)) for object, view in views}
        files |= {object: path for object, view in views if (path := self.found.files.get((object, view)))}
        if None in files.values():
            return Failure(MISSING)
        try:
            raw = read_mesh(files[views[0][0]], max_faces=MAX_FACES)
        except BadMesh as error:
            return Failure(f"unusable mesh: {error}")
        vertices, _, _ = normalise(raw.vertices @ self.rotation.T)
        return Mesh(vertices.astype(np.float32), raw.faces.astype(np.int32))


def described(root: Path, found: folder.Found, views: Sequence[folder.View], pattern: str) -> str:
    """What a folder holds, in lines for the log: how many views have a mesh, which objects have none, stray files."""
    objects = list(dict.fromkeys(object for object, _ in views))
    with_mesh = {object for object, _ in found.files}
    without = [object for object in objects if object not in with_mesh]
    lines = [f"{root}: meshes of {len(with_mesh)} of {len(objects)} test objects"]
    if without:
        expected = folder.key_of(pattern, *next(view for view in views if view[0] == without[0]))
        lines += [f"no mesh of {len(without)} objects (a file would be called {expected}.glb): {', '.join(without)}"]
    if found.strays:
        names = ", ".join(path.relative_to(root).as_posix() for path in found.strays)
        lines += [f"{len(found.strays)} files belong to no test object and are not used: {names}"]
    return "\n".join(lines)
