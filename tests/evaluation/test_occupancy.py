"""Inside and outside: closed forms, lines through edges and vertices, holes, overlaps, any orientation."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from evaluation import load
from evaluation.occupancy import _winding, occupancy, volume_iou


@pytest.mark.parametrize("resolution", [8, 64, 128])
def test_two_unit_cubes_half_a_side_apart(box_parts, resolution):
    a = box_parts(((-0.75, -0.5, -0.5), (0.25, 0.5, 0.5)))
    b = box_parts(((-0.25, -0.5, -0.5), (0.75, 0.5, 0.5)))
    grids = [occupancy(mesh.vertices, mesh.faces, resolution, watertight=True) for mesh in (a, b)]
    assert [grid.sum() for grid in grids] == [(resolution // 2) ** 3] * 2
    assert volume_iou(*grids) == pytest.approx(1 / 3, abs=1e-12)


def test_the_grid_is_indexed_x_y_z(box_parts):
    mesh = box_parts(((-1, -1, -1), (0, 1, 0.5)))
    grid = occupancy(mesh.vertices, mesh.faces, 8, watertight=True)
    expected = np.zeros((8, 8, 8), bool)
    expected[:4, :, :6] = True
    assert np.array_equal(grid, expected)
    assert np.array_equal(occupancy(mesh.vertices, mesh.faces, 8, watertight=False), expected)


@pytest.mark.parametrize("half", [0.25 + 1 / 16, 0.5 - 1 / 16])
def test_faces_edges_and_vertices_through_cell_centres(box_parts, half):
    # Sides, corners and the diagonals of the sides all lie exactly on lines of cell centres.
    mesh = box_parts(((-half,) * 3, (half,) * 3))
    cells = (mesh.vertices + 1) * 8 - 0.5
    assert np.array_equal(cells, np.round(cells))
    for axis in range(3):
        winding = _winding(cells, mesh.faces, 16, axis=axis)
        assert set(np.unique(winding)) == {0.0, 1.0}
        side = round(half * 16)
        assert winding.sum() in {side**a * (side + 1) ** (3 - a) for a in range(4)}


def test_volume_of_a_sphere(sphere):
    mesh = sphere(0.8)
    grid = occupancy(mesh.vertices, mesh.faces, 128, watertight=True)
    assert grid.mean() * 8 == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=2e-3)
    centres = (np.arange(128) + 0.5) / 64 - 1
    radius = np.linalg.norm(np.stack(np.meshgrid(centres, centres, centres, indexing="ij")), axis=0)
    assert np.array_equal(grid[radius < 0.799], np.ones((radius < 0.799).sum(), bool))
    assert not grid[radius > 0.801].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_any_turn_of_a_torus_has_its_volume_and_closed_columns(seed):
    torus = trimesh.creation.torus(0.6, 0.25, major_sections=24, minor_sections=12)
    vertices = torus.vertices @ Rotation.random(random_state=seed).as_matrix().T
    windings = [_winding((vertices + 1) * 24 - 0.5, torus.faces, 48, axis=axis) for axis in range(3)]
    for winding in windings:
        assert set(np.unique(winding)) <= {0.0, 1.0}
        assert winding.mean() * 8 == pytest.approx(torus.volume, rel=0.03)
        assert np.count_nonzero(winding != windings[0]) <= 1


def test_overlapping_parts_are_one_solid_and_a_cavity_is_empty(box_parts):
    two = box_parts(((-0.5, -0.5, -0.5), (0.25, 0.5, 0.5)), ((-0.25, -0.5, -0.5), (0.5, 0.5, 0.5)))
    one = box_parts(((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)))
    assert np.array_equal(*(occupancy(mesh.vertices, mesh.faces, 32, watertight=True) for mesh in (two, one)))
    inner = box_parts(((-0.25, -0.25, -0.25), (0.25, 0.25, 0.25)))
    shell = load.clean(
        np.concatenate([one.vertices, inner.vertices]), np.concatenate([one.faces, inner.faces[:, ::-1] + 8])
    )
    assert shell.watertight
    assert occupancy(shell.vertices, shell.faces, 32, watertight=True).sum() == 16**3 - 8**3


def test_inside_out_is_the_same_solid(chiral):
    grids = [occupancy(chiral.vertices, faces, 32, watertight=True) for faces in (chiral.faces, chiral.faces[:, ::-1])]
    assert np.array_equal(*grids)


def test_a_small_hole_changes_little(sphere):
    mesh = sphere(0.8)
    centre = mesh.vertices[mesh.faces].mean(axis=1)
    open_ = load.clean(mesh.vertices, mesh.faces[centre[:, 2] < 0.75])
    assert not open_.watertight
    whole = occupancy(mesh.vertices, mesh.faces, 64, watertight=True)
    # A line through the hole alone would leave whole columns empty; six directions outvote it.
    assert volume_iou(whole, occupancy(open_.vertices, open_.faces, 64, watertight=False)) > 0.97


def test_parts_outside_the_grid_do_not_matter(box_parts):
    mesh = box_parts(((-3, -3, -3), (0, 3, 3)))
    assert occupancy(mesh.vertices, mesh.faces, 16, watertight=True).mean() == 0.5
    away = box_parts(((1.5, 1.5, 1.5), (2, 2, 2)))
    nothing = occupancy(away.vertices, away.faces, 16, watertight=True)
    assert not nothing.any()
    assert np.isnan(volume_iou(nothing, nothing))
