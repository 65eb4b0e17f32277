"""Surface samples against closed forms."""

import numpy as np
import pytest
import trimesh

from data.sample import face_normals, sample_surface


def test_samples_are_uniform_by_area():
    box = trimesh.creation.box((2.0, 1.0, 0.5))  # faces of area 0.5, 1 and 2, twice each
    points, normals = sample_surface(box.vertices, box.faces, 40000, rng=np.random.default_rng(0))
    assert np.abs(points).max(0) == pytest.approx([1, 0.5, 0.25])
    share = np.abs(normals).mean(0)
    assert share == pytest.approx(np.array([0.5, 1, 2]) / 3.5, abs=0.01)
    top = points[normals[:, 2] > 0.5]
    assert top[:, :2].std(0) == pytest.approx([2 / 12**0.5, 1 / 12**0.5], rel=0.03)
    assert np.corrcoef(top[:, 0], top[:, 1])[0, 1] == pytest.approx(0, abs=0.03)


def test_every_prefix_is_a_uniform_sample():
    box = trimesh.creation.box((2.0, 1.0, 0.5))
    _, normals = sample_surface(box.vertices, box.faces, 16384, rng=np.random.default_rng(1))
    for level in (16384 // 16, 16384 // 4):
        assert np.abs(normals[:level]).mean(0) == pytest.approx(np.array([0.5, 1, 2]) / 3.5, abs=0.05)


def test_normals_of_a_sphere_point_outwards():
    sphere = trimesh.creation.icosphere(3, 0.9)
    points, normals = sample_surface(sphere.vertices, sphere.faces, 2000, rng=np.random.default_rng(0))
    assert (points * normals).sum(1).min() > 0.88
    assert np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(2000))


def test_triangles_without_area_are_never_chosen():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0.0]])
    faces = np.array([[0, 1, 3], [0, 1, 2], [1, 1, 1]])
    normals, areas = face_normals(vertices, faces)
    assert areas == pytest.approx([0, 0.5, 0]) and np.isfinite(normals).all()
    points, chosen = sample_surface(vertices, faces, 500, rng=np.random.default_rng(0))
    assert (chosen == [0, 0, 1]).all() and (points[:, :2].sum(1) <= 1).all()


def test_no_area_is_an_error():
    with pytest.raises(ValueError, match="no area"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 10, rng=np.random.default_rng(0))
