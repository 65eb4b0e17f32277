"""What a mesh file may name: materials, buffers and textures in its own folder, or in folders that are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from trimesh.resolvers import Resolver


def files_beside(path: Path, folders: Sequence[str | Path] = ()) -> Resolver:
    """Reads what the mesh at `path` names, from its folder or by its last name from one of `folders`; nothing else."""
    return _Beside(path.parent.resolve(), [Path(folder).resolve() for folder in folders])


class _Beside(Resolver):
    def __init__(self, home: Path, folders: list[Path]) -> None:
        self.home, self.folders = home, folders

    def get(self, key: str) -> bytes:
        """The bytes of a file; FileNotFoundError for what is not there or leaves the folder."""
        name = PurePosixPath(str(key).strip().replace("\\", "/"))
        for folder, wanted in [(self.home, name), *((folder, name.name) for folder in (self.home, *self.folders))]:
            path = (folder / wanted).resolve()
            if path.is_relative_to(folder) and path.is_file():
                return path.read_bytes()
        raise FileNotFoundError(f"{name} is not beside the mesh")

    def keys(self) -> list[str]:
        """The names of the files in the mesh's folder."""
        return sorted(path.name for path in self.home.iterdir())

    def namespaced(self, namespace: str) -> _Beside:
        """The same for a folder below."""
        return _Beside((self.home / namespace).resolve(), self.folders)

    def write(self, name: str, data: bytes) -> None:
        """Nothing is ever written."""
        raise PermissionError(f"{name}: meshes are read, not written")
