"""Distances and their summaries: definitions, symmetry, monotony, transforms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from core.randomness import numpy_rng
from evaluation import metrics, surface
from evaluation.metrics import Transform
from evaluation.neighbours import Tree

distances = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 4))


def test_definitions_on_a_case_done_by_hand():
    d_p, d_g = np.array([0.0, 0.05, 0.25]), np.array([0.05, 0.15])
    near = metrics.Nearest(d_p, d_g, np.array([1.0, -1.0, 0.5]), np.array([-1.0, 0.0]))
    row = metrics.surface_metrics(near, (0.1,))
    assert row["cd_avg"] == pytest.approx((0.1 + 0.1) / 2)
    assert row["cd_sum"] == pytest.approx(0.2)
    assert row["cd_sq"] == pytest.approx((0.0025 + 0.0625) / 3 + (0.0025 + 0.0225) / 2)
    precision, recall = 2 / 3, 1 / 2
    assert row["fscore_0.1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert row["nc"] == pytest.approx((2.5 / 3 + 0.5) / 2)
    assert row["nc_signed"] == pytest.approx((0.5 / 3 - 0.5) / 2)


@given(distances, distances, st.floats(0, 4), st.floats(0, 4))
def test_fscore_is_symmetric_bounded_and_grows_with_the_threshold(d_p, d_g, a, b):
    low, high = sorted((a, b))
    value = metrics.fscore(d_p, d_g, low)
    assert value == pytest.approx(metrics.fscore(d_g, d_p, low))
    assert 0 <= value <= metrics.fscore(d_p, d_g, high) <= 1


def test_swapping_prediction_and_truth_changes_nothing():
    rng = numpy_rng("swap")
    a, b = (
        surface.sample(rng.normal(size=(30, 3)), rng.integers(30, size=(20, 3)), 3000, rng) for _ in range(2)
    )  # fmt: skip
    there = metrics.surface_metrics(metrics.nearest(a, b, Transform.identity()), (0.05, 0.2))
    back = metrics.surface_metrics(metrics.nearest(b, a, Transform.identity()), (0.05, 0.2))
    assert there == pytest.approx(back)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.3, 3))
def test_moving_the_truth_back_is_the_same_as_moving_the_prediction(seed, scale):
    rng = numpy_rng("transform", seed)
    transform = Transform(Rotation.random(random_state=seed).as_matrix(), rng.normal(size=3), scale)
    a, b = (surface.sample(rng.normal(size=(9, 3)), np.arange(9).reshape(3, 3), 200, rng) for _ in range(2))
    assert np.allclose(transform.undo(transform.apply(a.points)), a.points)
    points = transform.apply(a.points)
    moved = surface.Cloud(points, a.normals @ transform.rotation.T, a.draw, Tree(points))
    expected = metrics.surface_metrics(metrics.nearest(moved, b, Transform.identity()), (0.1, 0.5))
    found = metrics.surface_metrics(metrics.nearest(a, b, transform), (0.1, 0.5))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 37.0, 90.0, 179.999, 180.0])
def test_angle_of_a_rotation(degrees):
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    assert Transform(rotation, np.zeros(3), 1.0).degrees == pytest.approx(degrees, abs=1e-6, rel=1e-6)


def test_samples_are_uniform_over_area_and_their_beginning_too():
    # Two rectangles of area 3 and 1, in different planes.
    vertices = np.array([[0, 0, 0], [3, 0, 0], [3, 1, 0], [0, 1, 0], [0, 0, 5], [0, 1, 5], [0, 1, 6], [0, 0, 6]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    cloud = surface.sample(vertices, faces, 40_000, numpy_rng("uniform"))
    for points in (cloud.points, cloud.first(10_000)):
        flat = points[:, 2] == 0
        assert flat.mean() == pytest.approx(0.75, abs=0.02)
        assert points[flat].mean(axis=0) == pytest.approx([1.5, 0.5, 0], abs=0.05)
        assert points[flat].std(axis=0) == pytest.approx([3 / 12**0.5, 1 / 12**0.5, 0], abs=0.02)
    assert len(cloud.first(10_000)) == 10_000
    assert np.allclose(np.abs(cloud.normals[cloud.points[:, 2] == 0]), [0, 0, 1])


def test_faces_without_area_are_never_sampled():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [6, 6, 6], [7, 7, 7]], float)
    faces = np.array([[3, 4, 5], [0, 1, 2], [3, 5, 4]])
    cloud = surface.sample(vertices, faces, 1000, numpy_rng("degenerate"))
    assert np.isfinite(cloud.normals).all()
    assert cloud.points.max() <= 1
