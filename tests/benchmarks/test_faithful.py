"""Whether the comparison of meshes and the certificate say what is so."""

import math

import numpy as np
import pytest
import trimesh

from benchmarks import faithful
from benchmarks.dense import dense_values
from benchmarks.shapes import STEEP, ball, box, rod, shapes, torus, union
from methods.layers.coarse_to_fine import evaluate
from methods.layers.extraction import surface


def balls(*centres, radius=0.2):
    meshes = [trimesh.creation.icosphere(subdivisions=2, radius=radius).apply_translation(c) for c in centres]
    joined = trimesh.util.concatenate(meshes)
    return np.asarray(joined.vertices), np.asarray(joined.faces)


def test_a_mesh_equals_itself():
    mesh = balls((0, 0, 0), (1, 0, 0))
    assert faithful.difference(mesh, mesh, 1e-4) == faithful.Difference(0, 0, 0.0)


def test_a_lost_and_a_gained_component_are_counted():
    one, two = balls((0, 0, 0)), balls((0, 0, 0), (1, 0, 0))
    assert (faithful.difference(one, two, 1e-4).lost, faithful.difference(one, two, 1e-4).gained) == (1, 0)
    assert faithful.difference(two, one, 1e-4).gained == 1
    assert faithful.difference(one, two, 1e-4).farthest > 0.5
    assert faithful.difference(None, two, 1e-4) == faithful.Difference(2, 0, math.inf)
    assert faithful.difference(None, None, 1e-4) == faithful.Difference(0, 0, 0.0)


def test_a_moved_vertex_is_seen():
    mesh = balls((0, 0, 0))
    moved = mesh[0].copy()
    moved[0] *= 1.01
    assert faithful.difference((moved, mesh[1]), mesh, 1e-4).farthest == pytest.approx(0.002, rel=1e-3)


@pytest.mark.parametrize("direction", [(1, 0, 0), (0.6, 0, -0.8), (1, 1, 1)])
def test_the_steepest_edge_of_a_plane_has_its_largest_slope(direction):
    normal = np.array(direction) / np.linalg.norm(direction)
    found = faithful.steepest(dense_values(lambda p: 60 * (p @ normal), 16))
    assert found == pytest.approx(60 * np.abs(normal).max(), rel=1e-4)


def test_a_distance_is_as_steep_as_it_is():
    for shape in shapes()[:2]:
        assert 0.98 * STEEP <= faithful.steepest(dense_values(shape.field, 48)) <= STEEP * (1 + 1e-4)


def test_a_change_on_the_last_layer_and_along_each_axis_counts():
    spacing = 2 * 1.05 / 4
    for axis in range(3):
        values = np.zeros((5, 5, 5), np.float32)
        values.swapaxes(0, axis)[-1] = 7
        assert faithful.steepest(values) == pytest.approx(7 / spacing)


def test_as_much_change_as_the_certificate_asks_gives_the_dense_mesh():
    speck = next(shape for shape in shapes() if "speck" in shape.name)
    dense = surface(dense_values(speck.field, 64))
    change = faithful.change_needed(STEEP, 64, 16) * 1.001
    assert change == pytest.approx(60 * 2 * 1.05 / 16, rel=2e-3)
    assert faithful.certified(STEEP, 64, 16, change)
    assert not faithful.certified(STEEP, 64, 16, change / 1.01)
    assert faithful.certified(STEEP, 16, 16, 0.0)  # the first grid is the last
    found = surface(evaluate(speck.field, 64, coarsest=16, change=change))
    assert faithful.difference(found, dense, 1e-4) == faithful.Difference(0, 0, 0.0)


def test_without_the_certificate_a_speck_is_lost_and_the_comparison_says_so():
    speck = next(shape for shape in shapes() if "speck" in shape.name)
    dense = surface(dense_values(speck.field, 128))
    found = surface(evaluate(speck.field, 128, coarsest=16, change=0.2))
    assert not faithful.certified(STEEP, 128, 16, 0.2)
    assert faithful.difference(found, dense, 1e-4).lost == 1


def test_the_first_grid_is_the_one_that_the_extraction_begins_on():
    for cells, coarsest in ((64, 32), (96, 32), (40, 32), (48, 10)):
        asked = []

        def field(points, asked=asked):
            asked.append(len(points))
            return -np.ones(len(points), np.float32) * 100

        evaluate(field, cells, coarsest=coarsest)
        assert asked[0] == (faithful.coarsest_of(cells, coarsest) + 1) ** 3


@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_a_closed_form_is_a_distance_below_or_equal_to_the_true_one(shape):
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 2000, 3)).astype(np.float32)
    change = np.abs(shape.distance(a) - shape.distance(b))
    assert (change <= np.linalg.norm(a - b, axis=1) + 1e-5).all()


def test_distances_of_closed_forms():
    points = np.float32([[1, 0, 0], [0, 0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(ball(0.3)(points), [0.7, 0.2, -0.3], atol=1e-6)
    np.testing.assert_allclose(box((0.5, 0.1, 0.5))(points), [0.5, 0.4, -0.1], atol=1e-6)
    np.testing.assert_allclose(rod(0.1, (0, 0, 0), (0.6, 0, 0))(points), [0.3, 0.4, -0.1], atol=1e-6)
    np.testing.assert_allclose(torus(1.0, 0.1)(points), [-0.1, math.hypot(1, 0.5) - 0.1, 0.9], atol=1e-6)
    np.testing.assert_allclose(union(ball(0.3), ball(0.9))(points), ball(0.9)(points))


def test_closed_forms_have_as_many_components_as_they_say():
    for shape in shapes():
        if shape.thinnest >= 0.05:  # thinner ones need a finer grid than a test has time for
            mesh = surface(dense_values(shape.field, 96))
            assert faithful.components(mesh).max() + 1 == shape.parts, shape.name
