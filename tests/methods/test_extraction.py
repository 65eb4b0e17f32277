"""Extraction: grid mapping, orientation, coarse-to-fine equals dense."""

import numpy as np
import trimesh

from methods.layers.extraction import evaluate, nodes, surface


def sphere(points, radius=0.8, centre=(0.1, -0.05, 0.02)):
    return 20 * (radius - np.linalg.norm(points - np.array(centre), axis=1)).astype(np.float32)


def test_a_sphere_comes_back_with_its_centre_radius_and_outward_faces():
    mesh = trimesh.Trimesh(*surface(evaluate(sphere, 64)))
    np.testing.assert_allclose(mesh.bounds.mean(0), (0.1, -0.05, 0.02), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - (0.1, -0.05, 0.02), axis=1), 0.8, atol=2e-3)
    assert mesh.is_watertight
    assert 0.98 < mesh.volume / (4 / 3 * np.pi * 0.8**3) < 1.0  # positive: faces look outwards


def test_coarse_to_fine_has_the_signs_of_dense():
    def thin(points):  # a sheet of 0.04 and a ball: the sheet is thinner than a coarse cell (0.066)
        sheet = np.minimum(0.02 - np.abs(points[:, 1]), 0.7 - np.abs(points[:, [0, 2]]).max(1))
        return 60 * np.maximum(sheet, 0.3 - np.linalg.norm(points - 0.5, axis=1)).astype(np.float32)

    dense = thin(nodes(np.stack(np.meshgrid(*[np.arange(65)] * 3, indexing="ij"), -1).reshape(-1, 3), 64)).reshape(
        [65] * 3
    )
    calls = []
    found = evaluate(lambda p: (calls.append(len(p)), thin(p))[1], 64)
    assert ((found > 0) == (dense > 0)).all()
    assert sum(calls) < 0.6 * 65**3


def test_empty_field_is_none_and_full_field_is_closed():
    assert surface(np.full((9, 9, 9), -1.0)) is None
    assert trimesh.Trimesh(*surface(np.full((9, 9, 9), 1.0))).is_watertight
