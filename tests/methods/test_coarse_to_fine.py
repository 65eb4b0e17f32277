"""Coarse to fine: what is asked, that nothing is lost where the field is as steep as said, and what is followed."""

import numpy as np
import pytest

from core.box import BOUND
from methods.layers import coarse_to_fine
from methods.layers.coarse_to_fine import ends, evaluate
from methods.layers.extraction import nodes, surface


def grid(cells):
    """All nodes, (n^3, 3)."""
    return nodes(np.stack(np.indices((cells + 1,) * 3), -1).reshape(-1, 3), cells)


def dense(field, cells):
    return field(grid(cells)).reshape((cells + 1,) * 3)


def balls(rng, steep):
    """Balls and hollows from large to a hundredth of the box: a field that changes by `steep` a unit of length."""
    centres = rng.uniform(-0.9, 0.9, (30, 3))
    radii = np.geomspace(0.5, 0.012, 30)
    hollow = rng.random(30) < 0.4

    def field(points):
        value = np.full(len(points), -np.inf)
        for centre, radius, empty in zip(centres, radii, hollow, strict=True):
            inside = radius - np.linalg.norm(points - centre, axis=1)
            value = np.minimum(value, -inside) if empty else np.maximum(value, inside)
        return (steep * value).astype(np.float32)

    return field


@pytest.mark.parametrize("seed", range(6))
def test_a_field_no_steeper_than_said_has_all_its_signs_and_no_value_too_large(seed):
    field = balls(np.random.default_rng(seed), 40)
    change = 40 * 2 * BOUND / 16 * (1 + 1e-5)
    found, every = evaluate(field, 64, coarsest=16, change=change), dense(field, 64)
    np.testing.assert_array_equal(found > 0, every > 0)
    assert (np.abs(found) <= np.abs(every) + 1e-3).all()
    np.testing.assert_array_equal(found[ends(every)], every[ends(every)])


def test_what_is_steeper_than_said_can_be_lost():
    lost = 0
    for seed in range(6):
        field = balls(np.random.default_rng(seed), 40)
        lost += ((evaluate(field, 64, coarsest=16, change=0.2) > 0) != (dense(field, 64) > 0)).any()
    assert lost


def test_a_plane_asks_for_the_ends_of_crossed_edges_once_each():
    calls = []

    def plane(points):
        calls.append(points)
        return (20 * (points[:, 0] - 0.4 * points[:, 1] - 0.31)).astype(np.float32)

    found = evaluate(plane, 64, coarsest=32, change=1e-3)
    first, *later = calls
    np.testing.assert_array_equal(first, grid(32))
    asked = np.zeros(65**3, int)
    for points in later:
        np.add.at(asked, np.rint((points + BOUND) * (64 / (2 * BOUND))).astype(int) @ (65**2, 65, 1), 1)
    asked, needed = asked.reshape(65, 65, 65), ends(found)
    assert asked.max() == 1
    assert not asked[~needed].any()
    needed[::2, ::2, ::2] = False  # which the first grid has
    assert asked[needed].all()


@pytest.mark.parametrize(
    "change, cells, asked",
    [
        (0.26, 8, 0),
        (0.3, 8, 4**3),  # middles of cells: two axes have taken 0.3 from a bound of 0.4
        (0.5, 8, 3 * 4 * 4 * 5),  # of faces, and by them cells are bounded
        (0.81, 8, 9**3 - 5**3),  # of edges, and so of all
        (0.81, 16, 9**3 - 5**3 + 3 * 8 * 8 * 9),  # half as much on the next grid
    ],
)
def test_an_edge_is_open_while_its_ends_are_bounded_by_no_more_than_the_change(change, cells, asked):
    calls = []
    flat = np.float32(-0.4)  # nothing is crossed, and all nodes are as far from 0
    evaluate(lambda p: (calls.append(len(p)), np.full(len(p), flat))[1], cells, coarsest=4, change=change)
    assert calls[0] == 5**3
    assert sum(calls[1:]) == asked


def test_what_is_far_is_not_asked_for():
    asked = []
    values = evaluate(lambda p: (asked.append(len(p)), np.full(len(p), -50, np.float32))[1], 64)
    assert asked == [33**3, 0, 0, 0]
    assert (values < 0).all()


def test_coarse_to_fine_has_the_signs_of_dense():
    def thin(points):  # a sheet of 0.04 and a ball: the sheet is thinner than a coarse cell (0.066)
        sheet = np.minimum(0.02 - np.abs(points[:, 1]), 0.7 - np.abs(points[:, [0, 2]]).max(1))
        return 60 * np.maximum(sheet, 0.3 - np.linalg.norm(points - 0.5, axis=1)).astype(np.float32)

    calls = []
    found = evaluate(lambda p: (calls.append(len(p)), thin(p))[1], 64)
    assert ((found > 0) == (dense(thin, 64) > 0)).all()
    assert sum(calls) < 0.3 * 65**3


def bump(points):
    """A small part in the middle of an edge of 32 cells: 1.2 and more from 0 at its ends, -5 farther away."""
    centre = nodes(np.array([[10.5, 16, 16]]), 32)
    return (6 * np.exp(-((points - centre) ** 2).sum(1) / 0.05**2) - 5).astype(np.float32)


def test_a_part_towards_which_the_field_falls_from_both_sides_is_found(monkeypatch):
    assert (dense(bump, 64) > 0).any() and not (dense(bump, 32) > 0).any()
    found = evaluate(bump, 64)
    np.testing.assert_array_equal(found > 0, dense(bump, 64) > 0)
    monkeypatch.setattr(coarse_to_fine, "THIN", 1)  # on no grid
    assert not (evaluate(bump, 64) > 0).any()


@pytest.mark.parametrize(
    "line, falls",
    [
        ((-4, -1, -1, -4), True),
        ((4, 1, 1, 4), True),
        ((-4, -3, -3, -4), False),  # not as fast as it would have to
        ((-4, -1, -1, -0.5), False),  # from one side
        ((-2, -1, -1, -2), False),  # just reaches 0
        ((4, -1, -1, -4), False),  # across the surface
    ],
)
def test_a_fall_has_to_go_on_to_reach_zero(line, falls):
    before, lower, upper, after = np.float32(line)[:, None]
    assert coarse_to_fine._falls(before, lower, upper, after).tolist() == [falls]


def test_a_part_of_the_surface_that_was_found_is_followed_to_its_end():
    def ball_on_a_rod(points):  # the rod is thinner than a coarse cell (0.13), and the change is next to nothing
        points = points - np.float32([0.066, 0.066, 0.0])  # between coarse nodes
        rod = 0.04 - np.maximum(np.linalg.norm(points[:, :2], axis=1), np.abs(points[:, 2]) - 0.8)
        ball = 0.3 - np.linalg.norm(points + np.float32([0.0, 0.0, 0.6]), axis=1)
        return 60 * np.maximum(rod, ball).astype(np.float32)

    every = dense(ball_on_a_rod, 64)
    found = evaluate(ball_on_a_rod, 64, coarsest=16, change=0.01)
    np.testing.assert_array_equal(np.where(ends(found), found, 0), np.where(ends(every), every, 0))
    assert len(surface(found)[0]) == len(surface(every)[0])


def test_a_zero_is_outside_on_every_grid():
    def sheet(points):  # 0 on whole layers of nodes
        return np.minimum(points[:, 0] * 30, 0).astype(np.float32)

    assert not (evaluate(sheet, 64, coarsest=16) > 0).any()


def test_ends_of_crossed_edges():
    values = -np.ones((4, 4, 4))
    values[1, 2, 3] = 1
    found = np.argwhere(ends(values)).tolist()
    assert found == [[0, 2, 3], [1, 1, 3], [1, 2, 2], [1, 2, 3], [1, 3, 3], [2, 2, 3]]
