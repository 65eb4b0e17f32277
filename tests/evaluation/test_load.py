"""Reading meshes: many formats, scenes with transforms, and every kind of bad file with a reason in words."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from evaluation import load
from evaluation.load import MeshError


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "off", "glb"])
def test_formats_agree(tmp_path, suffix):
    path = tmp_path / f"mesh.{suffix}"
    trimesh.creation.icosphere(subdivisions=2).export(path)
    mesh = load.read(path)
    assert (len(mesh.vertices), len(mesh.faces)) == (162, 320)  # stl repeats vertices: they are welded
    assert mesh.watertight
    assert mesh.components == 1


def test_a_scene_is_merged_with_its_transforms(tmp_path):
    scene = trimesh.Scene()
    for x in (-2.0, 3.0):
        scene.add_geometry(trimesh.creation.box(), transform=trimesh.transformations.translation_matrix([x, 0, 0]))
    scene.export(tmp_path / "scene.glb")
    mesh = load.read(tmp_path / "scene.glb")
    assert mesh.components == 2
    assert np.allclose(mesh.vertices[:, 0].min(), -2.5)
    assert np.allclose(mesh.vertices[:, 0].max(), 3.5)


@pytest.mark.parametrize("name, content, reason", [
    ("text.obj", "dear reader, this is a letter", "empty|cannot be read"),
    ("empty.ply", "", "cannot be read"),
    ("points.ply", "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
                   "end_header\n0 0 0\n", "empty|cannot be read"),
    ("mesh.xyz123", "?", "cannot be read"),
    ("torn.glb", "glTF", "cannot be read"),
])  # fmt: skip
def test_bad_files_have_a_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_text(content)
    with pytest.raises(MeshError, match=reason):
        load.read(tmp_path / name)


def test_missing_files_and_folders_have_a_reason(tmp_path):
    with pytest.raises(MeshError, match="missing"):
        load.read(tmp_path / "none.ply")
    with pytest.raises(MeshError, match="not a file"):
        load.read(tmp_path)


def test_bad_arrays_have_a_reason():
    box = trimesh.creation.box()
    cases = [
        ((np.zeros((0, 3)), np.zeros((0, 3), int)), "empty"),
        ((box.vertices * np.nan, box.faces), "fewer than 4"),
        ((box.vertices * 0, box.faces), "fewer than 4"),
        ((box.vertices, box.faces[:3]), "fewer than 4"),
        ((box.vertices, box.faces + 1), "do not exist"),
        ((box.vertices, box.faces - 1), "do not exist"),
        ((box.vertices * 1e200, box.faces), "too large"),
        ((box.vertices * [1, 0, 0], box.faces), "fewer than 4"),
    ]
    for arrays, reason in cases:
        with pytest.raises(MeshError, match=reason):
            load.clean(*arrays)


def test_faces_at_vertices_that_are_not_finite_are_dropped_and_no_more():
    ball = trimesh.creation.icosphere(subdivisions=2)
    vertices = np.array(ball.vertices)
    vertices[0, 1] = np.inf
    mesh = load.clean(vertices, ball.faces)
    assert len(mesh.faces) == 320 - (ball.faces == 0).any(axis=1).sum()
    assert np.isfinite(mesh.vertices).all()
    assert not mesh.watertight


def test_welding_joins_what_is_nearer_than_1e_8_only():
    box = trimesh.creation.box()
    apart = np.array(box.vertices)[box.faces].reshape(-1, 3)
    soup = np.arange(36).reshape(12, 3)
    assert len(load.clean(apart + np.arange(36)[:, None] * 1e-11, soup).vertices) == 8
    loose = load.clean(apart + np.arange(36)[:, None] * 1e-6, soup)
    assert len(loose.vertices) == 36
    assert loose.components == 12
    assert not loose.watertight


def test_watertight_means_closed_and_of_one_mind_about_the_outside():
    box = trimesh.creation.box()
    faces = np.array(box.faces)
    assert load.clean(box.vertices, faces).watertight
    assert load.clean(box.vertices, faces[:, ::-1]).watertight
    faces[0] = faces[0, ::-1]
    assert not load.clean(box.vertices, faces).watertight


def test_a_face_on_a_line_does_not_open_a_closed_mesh():
    # The edge 0-1 of a tetrahedron is split at 4 on one side only: the flat face 0-4-1 closes the seam.
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0]])
    faces = np.array([[0, 4, 3], [4, 1, 3], [0, 1, 4], [0, 2, 1], [0, 3, 2], [1, 2, 3]])
    assert load.clean(vertices, faces).watertight


def test_what_only_a_dropped_face_had_does_not_stretch_the_box():
    box = trimesh.creation.box()
    vertices, faces = np.vstack([[10.0, 0, 0], box.vertices]), np.vstack([[0, 0, 0], box.faces + 1, [1, 1, 2]])
    mesh = load.clean(vertices, faces)
    assert np.abs(mesh.vertices).max() == 0.5 and len(mesh.vertices) == 8
    assert np.array_equal(mesh.vertices[mesh.faces], box.vertices[box.faces])
    assert mesh.watertight


def test_a_face_on_a_line_does_not_stretch_the_box():
    ball = trimesh.creation.icosphere(2)
    spike = np.array([[0, 0, 1.5], [0, 0, 2.0], [0, 0, 3.0]])
    faces = np.vstack([ball.faces, np.arange(3) + len(ball.vertices), [0, 0, 0]])
    mesh = load.clean(np.vstack([ball.vertices, spike]), faces)
    assert np.abs(mesh.vertices).max() <= 1 and len(mesh.faces) == len(ball.faces)
    assert mesh.watertight


def test_a_mesh_of_numbers_that_are_not_finite_says_so():
    box = trimesh.creation.box()
    with pytest.raises(load.MeshError, match="12 of 12 have corners that are not finite"):
        load.clean(np.full_like(box.vertices, np.nan), box.faces)
