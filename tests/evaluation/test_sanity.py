"""The protocol against cases whose answer is known beforehand: closed forms, known turns, mirror images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.randomness import numpy_rng
from evaluation import load, metrics, protocol, surface
from evaluation.metrics import Transform
from evaluation.score import failed, score


def turned(mesh: load.Triangles, matrix: np.ndarray) -> load.Triangles:
    faces = mesh.faces if np.linalg.det(matrix) > 0 else mesh.faces[:, ::-1]
    return load.clean(mesh.vertices @ matrix.T, faces)


def yaw(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def test_identity_is_as_good_as_two_samples_of_one_surface(chiral):
    v1 = protocol.load("v1")
    row = score(chiral, chiral, v1, name="same")
    sides = np.diff(surface.normalise(chiral.vertices, *surface.box(chiral.vertices))[chiral.faces], axis=1)
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2
    floor = 0.5 * np.sqrt(area / v1.points)
    assert row["cd_avg_before"] == pytest.approx(floor, rel=0.05)
    assert row["cd_avg"] <= row["cd_avg_before"]
    assert row["fscore_0.02"] == pytest.approx(1, abs=1e-4)
    assert row["nc"] > 0.98  # samples near a sharp edge have neighbours across it
    assert row["nc_signed"] > 0.98
    assert row["viou_64_before"] == row["viou_128_before"] == 1.0
    assert row["rotation_deg"] < 0.5
    assert row["align_scale"] == 1.0


@pytest.mark.parametrize("points, cd, at_002, at_005", [
    (2048, 0.0391, 0.201, 0.705),
    (10_000, 0.0177, 0.635, 0.998),
    (16_000, 0.0141, 0.796, 1.0),
    (100_000, 0.0056, 1.0, 1.0),
])  # fmt: skip
def test_sampling_floor_of_a_unit_sphere(sphere, points, cd, at_002, at_005):
    """Two samples of one sphere are 0.5 sqrt(area / n) apart; the numbers are of one draw, made by other code."""
    mesh = sphere(1.0)
    clouds = [surface.sample(mesh.vertices, mesh.faces, points, numpy_rng("floor", i)) for i in (0, 1)]
    row = metrics.surface_metrics(metrics.nearest(*clouds, Transform.identity()), (0.02, 0.05))
    assert row["cd_avg"] == pytest.approx(cd, rel=0.025)
    assert row["cd_avg"] == pytest.approx(0.5 * np.sqrt(4 * np.pi / points), rel=0.025)
    assert row["fscore_0.02"] == pytest.approx(at_002, abs=0.03)
    assert row["fscore_0.05"] == pytest.approx(at_005, abs=0.03)


@pytest.mark.parametrize("degrees", [37.0, -100.0, 180.0])
def test_a_known_yaw_is_found(chiral, still, degrees):
    row = score(turned(chiral, yaw(degrees)), chiral, still)
    assert row["rotation_deg"] == pytest.approx(abs(degrees), abs=1.0)
    assert row["cd_avg"] < 0.02 < row["cd_avg_before"]
    assert row["viou_32"] > 0.9 > row["viou_32_before"]


def test_a_toppled_shape_is_found_only_with_free_pose(chiral, still):
    toppled = turned(chiral, yaw(37) @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
    free = replace(still, align=replace(still.align, free_pose=True))
    assert score(toppled, chiral, free)["cd_avg"] < 0.02 < score(toppled, chiral, still)["cd_avg"] / 2


def test_rigid_icp_shows_shrinkage_and_scaling_icp_hides_it(chiral, still):
    small = turned(chiral, 0.9 * np.eye(3))
    rigid = score(small, chiral, still)
    scaling = score(small, chiral, replace(still, align=replace(still.align, icp="similarity")))
    assert rigid["align_scale"] == 1.0
    assert rigid["cd_avg"] > 1.5 * scaling["cd_avg"]
    assert rigid["viou_32"] < 0.8 < 0.95 < scaling["viou_32"]  # 0.9^3 = 0.73
    assert scaling["align_scale"] == pytest.approx(1 / 0.9, abs=0.01)


@pytest.mark.parametrize("free_pose", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirror_image_is_never_aligned(chiral, still, free_pose, axis):
    mirror = np.diag(np.where(np.arange(3) == axis, -1.0, 1.0))
    align = replace(still.align, free_pose=free_pose, icp="similarity")
    row = score(turned(chiral, mirror), chiral, replace(still, align=align))
    assert row["cd_avg"] > 0.04
    assert row["viou_32"] < 0.7


def test_flipped_faces_of_the_truth_change_only_the_signed_normals(chiral, still):
    flipped = load.clean(chiral.vertices, chiral.faces[:, ::-1])
    plain, other = score(chiral, chiral, still), score(chiral, flipped, still)
    assert other["nc"] == pytest.approx(plain["nc"], abs=0.01)
    assert plain["nc_signed"] > 0.9
    assert other["nc_signed"] < -0.9
    assert other["viou_32_before"] == 1.0


@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_concentric_spheres_are_their_gap_apart(sphere, delta):
    plain = replace(protocol.load("vecset"), normalise="none", viou=(64,))
    row = score(sphere(0.7 + delta), sphere(0.7), plain)
    assert row["cd_avg"] == pytest.approx(delta, rel=0.01)
    assert row["cd_sum"] == 2 * row["cd_avg"]
    assert row["cd_sq"] == pytest.approx(2 * delta**2, rel=0.02)
    assert row["nc_signed"] == pytest.approx(1, abs=0.01)
    assert row["viou_64"] == pytest.approx((0.7 / (0.7 + delta)) ** 3, abs=0.01)


def test_normalisation_hides_size_and_place_but_the_truths_box_does_not(sphere):
    ball, other = sphere(0.4), sphere(0.8)
    other = load.clean(other.vertices + np.array([5, -3, 1]), other.faces)
    v1 = replace(protocol.load("v1"), points=5000, viou=(32,))
    assert score(other, ball, v1)["viou_32_before"] > 0.99
    assert score(other, ball, replace(v1, normalise="truth"))["cd_avg_before"] > 1


def test_a_shrunk_reconstruction_loses_under_the_protocol_of_the_vae_alone(sphere):
    """A ball that comes 5 % too small: its own box hides that, the truth's does not."""
    ball, small = sphere(0.8), sphere(0.8 * 0.95)
    recipes = {name: replace(protocol.load(name), viou=(64,)) for name in ("v1", "vecset")}
    found = {name: score(small, ball, recipe) for name, recipe in recipes.items()}
    floor = 0.5 * np.sqrt(4 * np.pi / recipes["v1"].points)  # of a unit sphere, which both are in their own box
    assert found["v1"]["cd_avg"] == pytest.approx(floor, rel=0.03)
    assert found["v1"]["fscore_0.05"] > 0.999 and found["v1"]["viou_64"] > 0.98
    shrunk = found["vecset"]
    assert shrunk["cd_sum"] == pytest.approx(2 * 0.05, rel=0.02)  # every point is 0.05 of the truth's box away
    assert shrunk["fscore_0.02"] == 0
    assert shrunk["viou_64"] == pytest.approx(0.95**3, abs=0.01)
    whole = score(ball, ball, recipes["vecset"])
    assert whole["cd_sum"] == pytest.approx(2 * floor, rel=0.03) and whole["viou_64"] == 1


def test_failure_policy_is_the_worst_of_every_metric(chiral):
    for name in protocol.names():
        recipe = replace(protocol.load(name), points=1000)
        good, bad = score(chiral, chiral, recipe), failed(recipe, watertight=True)
        assert list(bad) == list(good)
        assert bad["cd_avg"] == pytest.approx(2 * np.sqrt(3))
        assert bad["cd_sum"] == 2 * bad["cd_avg"]
        assert bad["cd_sq"] == pytest.approx(24)
        assert all(bad[key] == 0 for key in bad if key.startswith(("fscore", "nc", "viou")))
        assert np.isnan([v for k, v in failed(recipe, watertight=False).items() if k.startswith("viou")]).all()


def test_volume_iou_is_undefined_against_an_open_truth(chiral, still):
    hole = load.clean(chiral.vertices, chiral.faces[1:])
    assert np.isnan(score(chiral, hole, still)["viou_32"])
    assert score(hole, chiral, still)["viou_32"] > 0.8


def test_scores_depend_on_the_names_alone(chiral, still):
    first, again, other = (score(chiral, chiral, still, name=name) for name in ("a", "a", "b"))
    assert repr(first) == repr(again)  # to the last digit
    assert first["cd_avg"] != other["cd_avg"]
