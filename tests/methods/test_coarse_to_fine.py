"""Coarse to fine: what is asked, that nothing is lost where the field is as steep as said, and what is followed."""

import numpy as np
import pytest

from core.box import BOUND
from methods.layers import coarse_to_fine
from methods.layers.coarse_to_fine import ends, evaluate
from methods.layers.extraction import OUTSIDE, nodes, surface


def grid(cells):
    """All nodes, (n^3, 3)."""
    return nodes(np.stack(np.indices((cells + 1,) * 3), -1).reshape(-1, 3), cells)


def dense(field, cells):
    return field(grid(cells)).reshape((cells + 1,) * 3)


def balls(rng, steep):
    """Balls and hollows inside the box, down to a hundredth of it: a field that changes by `steep` a unit of length."""
    centres = rng.uniform(-0.6, 0.6, (30, 3))
    radii = np.geomspace(0.4, 0.012, 30)
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


def test_nodes_that_are_looked_at_a_few_at_a_time_give_the_same_and_are_asked_in_the_same_order(monkeypatch):
    found = []
    for at_once in (coarse_to_fine.AT_ONCE, 100):
        monkeypatch.setattr(coarse_to_fine, "AT_ONCE", at_once)
        field, asked = balls(np.random.default_rng(0), 40), []
        values = evaluate(lambda points, of=asked, field=field: of.append(points) or field(points), 64, coarsest=16)
        found.append((values, np.concatenate(asked), ends(values)))
    for large, small in zip(*found, strict=True):
        np.testing.assert_array_equal(large, small)


def test_what_is_steeper_than_said_can_be_lost():
    lost = 0
    for seed in range(6):
        field = balls(np.random.default_rng(seed), 40)
        lost += ((evaluate(field, 64, coarsest=16, change=0.2) > 0) != (dense(field, 64) > 0)).any()
    assert lost


def test_flat_faces_ask_for_the_ends_of_crossed_edges_once_each(monkeypatch):
    monkeypatch.setattr(coarse_to_fine, "THIN", 1)  # no search
    calls = []

    def octahedron(points):
        calls.append(points)
        return (20 * (0.91 - np.abs(points).sum(1))).astype(np.float32)

    found = evaluate(octahedron, 64, coarsest=32, change=1e-3)
    first, *later = calls
    np.testing.assert_array_equal(first, grid(32))
    asked = np.zeros(65**3, int)
    for points in later:
        np.add.at(asked, np.rint((points + BOUND) * (64 / (2 * BOUND))).astype(int) @ (65**2, 65, 1), 1)
    asked, needed = asked.reshape(65, 65, 65), ends(found)
    assert asked.max() == 1
    assert not asked[~needed].any()
    needed[::2, ::2, ::2] = False  # which the first grid has
    assert not asked[::2, ::2, ::2].any()
    assert asked[needed].all()


@pytest.mark.parametrize(
    "change, cells, asked",
    [
        (0.26, 8, 0),
        (0.3, 8, 4**3),  # middles of cells: two axes have taken 0.3 from a bound of 0.4
        (0.5, 8, 3 * 4 * 4 * 5),  # of faces, and by them cells are bounded
        (0.8, 8, 9**3 - 5**3),  # of edges, and so of all
        (0.8, 16, 9**3 - 5**3 + 3 * 8 * 8 * 9),  # half as much on the next grid
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
    monkeypatch.setattr(coarse_to_fine, "THIN", 2)  # on the last grid
    np.testing.assert_array_equal(evaluate(bump, 64), found)
    monkeypatch.setattr(coarse_to_fine, "THIN", 1)  # on no grid
    assert not (evaluate(bump, 64) > 0).any()


@pytest.mark.parametrize(
    "line, falls",
    [
        ((-4, -1, -1, -4), True),
        ((4, 1, 1, 4), True),
        ((-4, -3, -3, -4), False),  # not as fast as it would have to
        ((-4, -1, -1, -0.5), False),  # from one side
        ((-2, -1, -1, -2), False),  # by as much as is left
        ((-2.1, -1, -1, -2), True),
        ((-2, -1, -1, -2.1), True),
        ((2, 1, 1, 2.1), True),
        ((4, -1, -1, -4), False),  # across the surface
    ],
)
def test_a_fall_is_of_more_than_is_left(line, falls):
    before, lower, upper, after = np.float32(line)[:, None]
    assert coarse_to_fine._falls(before, lower, upper, after).tolist() == [falls]


def looked_up(values):
    """A field that has these values at the nodes of its grid, and how often each is asked."""
    cells, asked = len(values) - 1, np.zeros(values.shape, int)

    def field(points):
        place = tuple(np.rint((points + BOUND) * (cells / (2 * BOUND))).astype(int).T)
        np.add.at(asked, place, 1)
        return values[place]

    return field, asked


def outside(values):
    """These values where the outer layer is outside."""
    closed = np.minimum(values, OUTSIDE)
    closed[1:-1, 1:-1, 1:-1] = values[1:-1, 1:-1, 1:-1]
    return closed


@pytest.mark.parametrize("cells, coarsest", [(32, 8), (24, 10), (40, 9)])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_as_steep_as_said_along_all_axes_at_once_has_its_signs_and_is_asked_once(seed, cells, coarsest):
    rng = np.random.default_rng(seed)
    places = np.indices((cells + 1,) * 3)
    steps = [np.abs(places - node[:, None, None, None]).sum(0) for node in rng.integers(3, cells - 2, (12, 3))]
    every = (rng.integers(1, 3) - np.min(steps, 0)).astype(np.float32)  # by 1 along each edge: steepest on diagonals
    field, asked = looked_up(every)
    found = evaluate(field, cells, coarsest=coarsest, change=cells / coarsest)
    np.testing.assert_array_equal(found > 0, every > 0)
    np.testing.assert_array_equal(found[ends(every)], every[ends(every)])
    assert (np.abs(found) <= np.abs(every)).all()
    assert asked.max() == 1 and asked[ends(every)].all()


@pytest.mark.parametrize("flipped", [(), (0, 1, 2)])
@pytest.mark.parametrize("change", [0.1, 1.0])
def test_both_ends_of_each_crossed_edge_are_the_fields_own_even_in_noise(change, flipped):
    noise = np.rint(3 * np.random.default_rng(0).standard_normal((33, 33, 33)) - 5)  # with zeros
    every = outside(np.flip(noise, flipped).astype(np.float32))
    field, asked = looked_up(every)
    found = evaluate(field, 32, coarsest=8, change=change)
    crossed = ends(found)
    assert crossed.any()
    np.testing.assert_array_equal(found[crossed], every[crossed])
    assert asked[crossed].all()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("way", [-1, 1])
def test_a_part_of_the_surface_that_was_found_is_followed_to_its_end(axis, way):
    every = np.full((33, 33, 33), -9, np.float32)
    along = every.swapaxes(axis, 0)[::way]
    along[3:30, 17, 17] = 1  # a rod of one node, between the nodes of all coarser grids
    along[4:9, 12:21, 12:21] = 1  # the block at its end
    field, asked = looked_up(every)
    found = evaluate(field, 32, coarsest=8, change=0.01)
    np.testing.assert_array_equal(found > 0, every > 0)
    assert asked.max() == 1


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("way", [-1, 1])
@pytest.mark.parametrize(
    "first, line, falls",
    [
        (8, (-20, -6.5, -1, -9), True),
        (8, (-9, -1, -6.5, -20), True),
        (8, (-9, -1, -4.6, -5), True),
        (8, (-9, -1, -8, -5), False),
        (2, (-9, -1, -4.6, -5), True),
        (0, (-1, -2.5, -5), False),  # on the border nothing is before the outer layer
        (0, (-1, -1.5, -5), True),
    ],
)
def test_a_thin_part_is_looked_for_along_all_axes_up_to_the_border(axis, way, first, line, falls):
    every = np.full((17, 17, 17), -90, np.float32)
    along = every.swapaxes(axis, 0)[::way]
    along[first + 2 * np.arange(len(line)), 8, 8] = line  # nodes of the grid with 8 cells
    along[first + (3 if first else 1), 8, 8] = 1  # between them
    assert (evaluate(looked_up(every)[0], 16, coarsest=8, change=0.5) > 0).any() == falls


def test_a_surface_that_leaves_the_box_is_closed_as_on_the_dense_grid():
    def ball(points):
        return (30 * (0.6 - np.linalg.norm(points - np.float32([0.7, 0.1, 0.0]), axis=1))).astype(np.float32)

    vertices, faces = surface(evaluate(ball, 64))
    every, dense_faces = surface(dense(ball, 64))
    np.testing.assert_array_equal(faces, dense_faces)
    np.testing.assert_allclose(vertices, every, atol=1e-6)


def test_a_zero_is_outside_on_every_grid():
    def sheet(points):  # 0 on whole layers of nodes
        return np.minimum(points[:, 0] * 30, 0).astype(np.float32)

    assert not (evaluate(sheet, 64, coarsest=16) > 0).any()


def test_ends_of_crossed_edges():
    values = -np.ones((4, 4, 4))
    values[1, 2, 3] = 1
    found = np.argwhere(ends(values)).tolist()
    assert found == [[0, 2, 3], [1, 1, 3], [1, 2, 2], [1, 2, 3], [1, 3, 3], [2, 2, 3]]
