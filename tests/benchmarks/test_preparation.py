"""What preparation is compared with can fail: surfaces that stand apart, volumes, rays that meet another place."""

import numpy as np
import pytest
import trimesh

from benchmarks import preparation, preparation_peers
from benchmarks.options import Options
from data.load import RawMesh


def ball(radius):
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_the_distance_of_two_balls_is_that_of_their_radii():
    assert preparation_peers.surface_distance(ball(0.8), ball(0.75), 0.02) == pytest.approx(0.05, rel=0.05)
    assert preparation_peers.surface_distance(ball(0.8), ball(0.8), 0.02) < 1e-6


def test_a_part_that_one_surface_lacks_is_seen_from_the_other():
    whole, (vertices, faces) = ball(0.8), ball(0.8)
    half = vertices, faces[vertices[faces].mean(axis=1)[:, 1] < 0]
    assert preparation_peers.surface_distance(half, whole, 0.05) > 0.05
    assert preparation_peers.surface_distance(whole, half, 0.05) > 0.05


def test_the_volume_of_a_box():
    box = trimesh.creation.box((1.0, 0.5, 0.2))
    assert preparation_peers.volume((box.vertices, box.faces)) == pytest.approx(0.1)


def test_depths_along_rays_tell_another_face_but_not_a_doubled_one():
    vertices = np.float64([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]])
    raw = RawMesh(vertices, np.array([[0, 1, 2], [0, 1, 2], [3, 4, 5]]), solid=False)
    origins, rays = np.float64([[0.2, 0.2, 3]] * 4), np.float64([[0, 0, -1]] * 4)
    found = preparation_peers.depth(raw, origins, rays, np.array([0, 1, 2, -1]))
    np.testing.assert_allclose(found, [3, 3, 2, 0])


def test_the_renderers_own_rays_are_recorded():
    params = preparation.recipe(Options(quick=True))
    view = preparation_peers.rays_of(RawMesh(*ball(0.9), solid=True), params)
    size = params["image_size"] * params["supersample"]
    assert size**2 / 4 < len(view.rays) == len(view.origins) <= size**2
    hit = view.scene.run(view.origins, view.rays, output=True)["primID"] >= 0
    assert 0.5 < hit.mean() < 1  # a ball in the window of its box


def test_workers_are_judged_within_rounds():
    # The machine becomes half as fast in the second round, for one worker and for two.
    row = preparation._worker_row(2, 8, {1: [1.0, 0.5], 2: [1.8, 0.9]}, 2**20)
    assert row.targets[1].measured == pytest.approx(0.9)
    assert len(preparation._worker_row(1, 8, {1: [1.0, 0.5]}, 2**20).targets) == 1
