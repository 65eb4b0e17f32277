"""Alignment: proper rotations only, and never worse than before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from core.randomness import numpy_rng
from evaluation import load, protocol, surface
from evaluation.align import align, octahedral_group, starts
from evaluation.metrics import Transform
from evaluation.neighbours import Tree
from evaluation.score import score

quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_proper_rotation(matrix: np.ndarray) -> bool:
    return np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-9) and np.linalg.det(matrix) > 0


def test_octahedral_group_is_a_group_of_24_proper_rotations():
    group = octahedral_group()
    assert len(group) == 24
    assert np.array_equal(group[0], np.eye(3))
    assert all(is_proper_rotation(matrix) for matrix in group)
    keys = {tuple(matrix.ravel()) for matrix in group}
    assert len(keys) == 24
    assert {tuple((a @ b).ravel()) for a in group for b in group} == keys


def test_starts_are_distinct_proper_rotations():
    settings_v1 = protocol.load("v1").align
    upright = starts(settings_v1)
    free = starts(replace(settings_v1, free_pose=True))
    assert len(upright) == 24
    assert len(free) == 24 * 24 // 4  # four of the octahedral rotations are yaw turns themselves
    assert list(upright)[1] == "yaw_15"
    for matrices in (upright, free):
        assert all(is_proper_rotation(matrix) for matrix in matrices.values())
        flat = np.array([matrix.ravel() for matrix in matrices.values()])
        assert cKDTree(flat).query(flat, k=2)[0][:, 1].min() > 0.1
    assert list(starts(replace(settings_v1, starts="identity"))) == ["yaw_0"]


def cloud(seed: int, n: int = 600) -> surface.Cloud:
    """Samples of a random handful of triangles."""
    rng = numpy_rng("cloud", seed)
    vertices = rng.normal(size=(12, 3)) * rng.uniform(0.1, 0.6, size=3)
    return surface.sample(vertices, np.arange(12).reshape(4, 3), n, rng)


@quick
@given(seed=st.integers(0, 10**6), icp=st.sampled_from(["none", "rigid", "similarity"]), free=st.booleans())
def test_whatever_is_aligned_is_turned_properly(tiny, seed, icp, free):
    recipe = replace(tiny.align, icp=icp, free_pose=free, yaw_steps=4)
    found = align(cloud(seed), cloud(seed + 1), recipe)
    assert is_proper_rotation(found.transform.rotation)
    assert found.transform.scale > 0
    if icp != "similarity":
        assert found.transform.scale == pytest.approx(1, abs=1e-9)
    assert found.start in starts(recipe)


@quick
@given(seed=st.integers(0, 10**6), icp=st.sampled_from(["rigid", "similarity"]))
def test_alignment_never_makes_a_row_worse(tiny, seed, icp):
    rng = numpy_rng("pair", seed)
    meshes = [load.clean(rng.normal(size=(12, 3)) * 0.4, np.arange(12).reshape(4, 3)) for _ in range(2)]
    row = score(*meshes, replace(tiny, align=replace(tiny.align, icp=icp)))
    assert row["cd_avg"] <= row["cd_avg_before"]
    if row["start"] == "none":
        assert row["rotation_deg"] == 0
        assert row["cd_avg"] == row["cd_avg_before"]


@quick
@given(turn=st.floats(-180, 180), tilt=st.floats(-6, 6))
def test_yaw_with_a_little_tilt_is_found(chiral, turn, tilt):
    recipe = protocol.load("v1").align
    still, rng = chiral.vertices, numpy_rng("yaw", str(turn))
    rotation = Rotation.from_euler("yx", [turn, tilt], degrees=True).as_matrix()
    source = surface.sample(still @ rotation.T, chiral.faces, 2000, rng)
    target = surface.sample(still, chiral.faces, 2000, rng)
    found = align(source, target, recipe).transform
    error = Transform(found.rotation @ rotation, np.zeros(3), 1.0)
    assert error.degrees < 1.5


def test_no_alignment_where_the_protocol_has_none():
    assert align(cloud(0), cloud(1), protocol.load("vecset").align) is None


def test_icp_that_matches_nothing_leaves_the_start(tiny):
    far = cloud(0)
    shifted = surface.Cloud(far.points + 50.0, far.normals, far.draw, Tree(far.points + 50.0))
    found = align(far, shifted, tiny.align)
    assert np.isnan(found.residual)
    assert is_proper_rotation(found.transform.rotation)
