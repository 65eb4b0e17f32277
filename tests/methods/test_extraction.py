"""Extraction: grid mapping, orientation, the box of the surface."""

import numpy as np
import trimesh
from skimage.measure import marching_cubes

from methods.layers.coarse_to_fine import evaluate
from methods.layers.extraction import closed, in_box, surface


def sphere(points, radius=0.8, centre=(0.1, -0.05, 0.02)):
    return 20 * (radius - np.linalg.norm(points - np.array(centre), axis=1)).astype(np.float32)


def test_a_sphere_comes_back_with_its_centre_radius_and_outward_faces():
    mesh = trimesh.Trimesh(*surface(evaluate(sphere, 64)))
    np.testing.assert_allclose(mesh.bounds.mean(0), (0.1, -0.05, 0.02), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices - (0.1, -0.05, 0.02), axis=1), 0.8, atol=2e-3)
    assert mesh.is_watertight
    assert 0.98 < mesh.volume / (4 / 3 * np.pi * 0.8**3) < 1.0  # positive: faces look outwards


def test_the_surface_is_that_of_the_whole_grid():
    values = evaluate(lambda p: sphere(p, 0.2, (0.5, -0.3, 0.1)), 64)  # which does not meet the outer layer
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="ascent")
    found = surface(values)
    np.testing.assert_allclose(found[0], in_box(vertices, 65), atol=1e-6)
    np.testing.assert_array_equal(found[1], faces)


def test_the_closed_part_is_the_least_with_all_crossed_cells():
    values = np.full((8, 8, 8), -1e-6)  # so near the surface that it would move if it were changed
    values[2, 3, 4:6] = 1.0
    values[7, 0, 0] = 1.0  # of the outer layer, which is outside
    part, corner = closed(values)
    assert part.shape == (3, 3, 4) and corner.tolist() == [1, 2, 3]
    assert (part > 0).sum() == 2 and (part[part < 0] == np.float32(-1e-6)).all()
    values[1, 1, 6] = 1.0
    part, corner = closed(values)
    assert part.shape == (4, 5, 5) and corner.tolist() == [0, 0, 3]
    assert (part > 0).sum() == 3
    for layer in (part[0], part[:, 0], part[:, :, -1]):  # those of the grid
        assert (layer == np.float32(-1e-3)).all()
    assert (part[-1, 1:, :-1] == np.float32(-1e-6)).all()
    assert closed(np.full((4, 4, 4), -1.0)) is None


def test_empty_field_is_none_and_full_field_is_closed():
    assert surface(np.full((9, 9, 9), -1.0)) is None
    assert trimesh.Trimesh(*surface(np.full((9, 9, 9), 1.0))).is_watertight
