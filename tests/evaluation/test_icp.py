"""ICP: a known motion is found, pairs are within the distance, and it is the one of brute force and of Open3D."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.plain import alignment, open3d_icp
from core.randomness import numpy_rng
from evaluation import align, protocol
from evaluation.icp import fitted, icp, moved_by
from evaluation.metrics import Transform
from evaluation.neighbours import Tree

SETTINGS = {"iterations": 30, "tolerance": 1e-9, "scaling": False}


class Counted(Tree):
    """A tree that counts its searches."""

    searches = 0

    def query(self, points, *, within=None):
        self.searches += 1
        return super().query(points, within=within)


def points_of(name, n=400):
    return numpy_rng("icp", name).uniform(-1, 1, (n, 3))


def motion(angle, shift, scale=1.0):
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_euler("xyz", [angle, -angle, 2 * angle], degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


@pytest.mark.parametrize("scale", [1.0, 1.02])
def test_a_small_motion_is_found(scale):
    source, wanted = points_of("motion"), motion(1.0, [0.01, -0.02, 0.01], scale)
    target = moved_by(wanted, source)
    found, residual = icp(source, target, Tree(target), np.eye(4), 0.2, **{**SETTINGS, "scaling": scale != 1.0})
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert residual < 1e-9


def test_without_scaling_the_scale_stays():
    source = points_of("motion")
    found, _ = icp(source, 1.1 * source, Tree(1.1 * source), np.eye(4), 0.5, **SETTINGS)
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1.0)


def test_a_mirror_image_is_never_fitted():
    source = points_of("mirror")
    for scaling in (False, True):
        assert np.linalg.det(fitted(source, source * [1, 1, -1], scaling=scaling)[:3, :3]) > 0


def test_pairs_are_nearer_than_the_distance():
    source = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    target = source.copy()
    target[3, 2] += 0.25
    tree = Tree(target)
    for distance, residual in ((0.25, 0.0), (0.2501, 0.125)):
        found = icp(source, target, tree, np.eye(4), distance, iterations=0, tolerance=0.0, scaling=False)
        np.testing.assert_array_equal(found[0], np.eye(4))
        assert found[1] == residual  # of 3 pairs, and of all 4


def test_it_ends_when_nothing_changes_or_after_so_many_iterations():
    source = points_of("end")
    same = Counted(source)
    icp(source, source, same, np.eye(4), 0.2, **SETTINGS)
    assert same.searches == 2
    target = points_of("other")
    other = Counted(target)
    icp(source, target, other, np.eye(4), 0.5, iterations=4, tolerance=0.0, scaling=False)
    assert other.searches == 5


def test_it_ends_sooner_where_it_may_change_by_more():
    source = points_of("sooner", 3000)
    source *= [1.0, 0.6, 0.8] / np.linalg.norm(source, axis=1, keepdims=True)
    target = moved_by(motion(6.0, [0.05, 0.0, 0.0]), source)
    searches = []
    for tolerance in (0.02, 3e-3, 1e-5):
        tree = Counted(target)
        icp(source, target, tree, np.eye(4), 0.5, iterations=50, tolerance=tolerance, scaling=False)
        searches.append(tree.searches)
    assert 2 <= searches[0] < searches[1] < searches[2] < 51


def test_a_single_pair_gives_a_shift_and_no_scale():
    source = np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0]])
    target = np.array([[0.1, 0, 0], [50, 0, 0], [0, 50, 0]])
    found, residual = icp(source, target, Tree(target), np.eye(4), 0.5, **SETTINGS)
    np.testing.assert_allclose(moved_by(found, source[:1]), target[:1], atol=1e-12)
    assert residual < 1e-12
    assert icp(source, target, Tree(target), np.eye(4), 0.5, **{**SETTINGS, "scaling": True}) is None


def test_what_is_too_far_is_not_matched():
    source = points_of("far")
    assert icp(source, source + 5.0, Tree(source + 5.0), np.eye(4), 0.2, **SETTINGS) is None


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
@pytest.mark.parametrize("other", [alignment.icp, open3d_icp.icp], ids=["brute force", "Open3D"])
def test_it_is_that_of_others(kind, other, monkeypatch):
    if other is open3d_icp.icp:
        pytest.importorskip("open3d", exc_type=ImportError)
    source, target = (points_of(name, 800) * [1.0, 0.3, 0.6] for name in ("one", "another"))
    pair = align._Pair.of(source, target)
    for angle, tolerance in itertools.product((0, 40), (1e-6, 1e-3)):
        recipe = replace(protocol.load("v1").align, icp=kind, tolerance=tolerance)
        start = Transform(Rotation.from_euler("y", angle, degrees=True).as_matrix(), np.zeros(3), 1.0)
        found = []
        for way in (icp, other):
            monkeypatch.setattr(align, "icp", way)
            found.append(align._icp(pair, "yaw", start, recipe))
        ours, theirs = found
        assert ours.residual == pytest.approx(theirs.residual, abs=1e-12)
        for name in ("rotation", "translation", "scale"):
            np.testing.assert_allclose(
                getattr(ours.transform, name), getattr(theirs.transform, name), rtol=0, atol=1e-10
            )
