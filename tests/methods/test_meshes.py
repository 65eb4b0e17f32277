"""Generated meshes on disk: what others read, and names that a file system takes."""

from __future__ import annotations

import numpy as np
import trimesh

from methods.meshes import file_name, read_ply, write_ply


def test_ply_is_what_others_read(tmp_path):
    rng = np.random.default_rng(0)
    vertices, faces = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 50, (80, 3)).astype(np.int32)
    write_ply(tmp_path / "m.ply", vertices, faces)
    loaded = trimesh.load(tmp_path / "m.ply", process=False)
    assert np.array_equal(loaded.vertices, vertices) and np.array_equal(loaded.faces, faces)
    for ours, theirs in zip(read_ply(tmp_path / "m.ply"), (vertices, faces), strict=True):
        assert np.array_equal(ours, theirs) and ours.dtype == theirs.dtype


def test_file_names_are_distinct_and_stay_in_their_folder():
    names = ["chair", "a/b", "a_b", "a b", "../../up", "ü", "u", ".hidden", "x" * 300, "x" * 301]
    files = [file_name(name, 3) for name in names]
    assert len(set(files)) == len(names) and files[0] == "chair.v03.ply"
    assert all("/" not in file and not file.startswith(".") and len(file) < 150 for file in files)
