"""Nearest neighbours: exact ones."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from core.randomness import numpy_rng
from evaluation.neighbours import Tree


def points_of(kind):
    """Points (3000, 3) and as many queries."""
    points, queries = (numpy_rng(kind, name).normal(size=(3000, 3)) for name in ("points", "queries"))
    if kind == "flat":
        points[:, 1] = 0.5  # a face along two axes
    if kind == "far":
        queries += 100.0
    if kind == "not contiguous":
        return np.asfortranarray(points), queries[::-1]
    return points, queries


@pytest.mark.parametrize("kind", ["everywhere", "flat", "far", "not contiguous"])
def test_neighbours_are_those_of_scipy(kind):
    points, queries = points_of(kind)
    distance, index = Tree(points).query(queries)
    expected, expected_index = cKDTree(points).query(queries)
    np.testing.assert_array_equal(distance, expected)
    np.testing.assert_array_equal(index, expected_index)


def test_a_bounded_search_finds_what_is_nearer_and_nothing_else():
    points, queries = points_of("everywhere")
    far, nearest = Tree(points).query(queries)
    for within in (0.05, 0.2):
        distance, index = Tree(points).query(queries, within=within)
        near = far < within
        assert 0 < near.sum() < len(near)
        np.testing.assert_array_equal(distance, np.where(near, far, np.inf))
        np.testing.assert_array_equal(index[near], nearest[near])


def test_points_that_lie_in_one_place_and_a_single_one_are_found():
    for points in (np.ones((5000, 3)), np.ones((1, 3))):
        distance, index = Tree(points).query(np.zeros((2, 3)))
        np.testing.assert_allclose(distance, np.sqrt(3.0))
        assert (index < len(points)).all()


def test_no_queries_have_no_neighbours():
    assert [len(found) for found in Tree(np.zeros((1, 3))).query(np.zeros((0, 3)))] == [0, 0]
