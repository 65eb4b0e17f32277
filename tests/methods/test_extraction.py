"""Extraction: grid mapping, orientation, coarse-to-fine equals dense."""

import numpy as np
import trimesh
from scipy.ndimage import binary_dilation
from skimage.measure import marching_cubes

from methods.layers.extraction import closed, evaluate, in_box, nodes, surface


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


def test_a_finer_grid_asks_for_the_nodes_at_and_next_to_coarse_ones_near_the_surface():
    asked = []
    evaluate(lambda p: (asked.append(p), sphere(p))[1], 32, coarsest=16, band=3.0)
    coarse = sphere(asked[0]).reshape(17, 17, 17)
    near = np.abs(coarse) < 3.0
    for axis in range(3):
        flips = np.pad(np.diff(coarse > 0, axis=axis), [(1, 1) if i == axis else (0, 0) for i in range(3)])
        near |= flips.take(range(17), axis) | flips.take(range(1, 18), axis)
    fine = np.zeros((33, 33, 33), bool)
    fine[::2, ::2, ::2] = near
    index = np.argwhere(binary_dilation(fine, np.ones((3, 3, 3))))
    np.testing.assert_array_equal(asked[1], nodes(index, 32))


def test_a_part_of_the_surface_that_was_found_is_followed_to_its_end():
    def ball_on_a_rod(points):  # the rod is thinner than a coarse cell (0.13), and the band is next to nothing
        points = points - np.float32([0.066, 0.066, 0.0])  # between coarse nodes
        rod = 0.04 - np.maximum(np.linalg.norm(points[:, :2], axis=1), np.abs(points[:, 2]) - 0.8)
        ball = 0.3 - np.linalg.norm(points + np.float32([0.0, 0.0, 0.6]), axis=1)
        return 60 * np.maximum(rod, ball).astype(np.float32)

    def own(values):
        """Of nodes at the ends of crossed edges."""
        kept = np.zeros(values.shape, bool)
        for axis in range(3):
            flips = np.diff(values > 0, axis=axis)
            padded = np.pad(flips, [(1, 1) if i == axis else (0, 0) for i in range(3)])
            kept |= padded.take(range(65), axis) | padded.take(range(1, 66), axis)
        return np.where(kept, values, 0)

    every = nodes(np.stack(np.meshgrid(*[np.arange(65)] * 3, indexing="ij"), -1).reshape(-1, 3), 64)
    dense = ball_on_a_rod(every).reshape(65, 65, 65)
    found = evaluate(ball_on_a_rod, 64, coarsest=16, band=0.01)
    np.testing.assert_array_equal(own(found), own(dense))
    assert len(surface(found)[0]) == len(surface(dense)[0])


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
