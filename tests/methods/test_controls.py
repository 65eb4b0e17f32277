"""The controls, on ellipsoids whose answers are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from core.errors import UserError
from data.store import Split
from methods.contract import Mesh, PreparedData
from methods.ground_truth.method import GroundTruth
from methods.mean_shape.method import MeanShape, level_of_volume, mean_occupancy
from methods.meshes import fault
from methods.registry import resolve
from methods.retrieval.method import Retrieval, feature
from methods.template.method import SilhouetteEllipsoid

SHAPES = 4  # ball, cigar, plate, pole


def params(method: str) -> dict:
    return dict(resolve(method, "full", "smoke").params)


def fitted(entry: type, name: str, stage: str, prepared: Path, out: Path) -> Any:
    """The method, fitted to these shards into `out` and loaded anew."""
    out.mkdir()
    data = PreparedData(prepared, "ellipsoids", "smoke")
    entry(params(name)).fit(stage, data, upstream={}, out=out, seed=0)
    return entry(params(name)).load({stage: out}, "cpu")


def test_ground_truth_is_the_mesh_of_that_view(ellipsoids):
    samples = [Split(ellipsoids, "test").sample(i, 1) for i in range(SHAPES)]
    meshes = GroundTruth({}).load({}, "cpu").generate(np.zeros((4, 8, 8, 4), np.uint8), rngs=[], ground_truth=samples)
    for sample, mesh in zip(samples, meshes, strict=True):
        assert np.array_equal(mesh.vertices, sample.mesh()[0]) and np.array_equal(mesh.faces, sample.mesh()[1])
        assert fault(mesh) is None


def test_mean_of_one_ellipsoid_is_that_ellipsoid(ellipsoids):
    split = Split(ellipsoids, "train")
    plate = split.objects.index("train/plate")  # symmetric about the vertical: the same in every upright view
    values, volume = mean_occupancy(split, [plate], 32, smoothing=0.7)
    exact = 4 / 3 * np.pi * 0.95 * 0.2 * 0.95
    assert volume == pytest.approx(exact, rel=0.05)  # 20,000 queries
    inside = np.argwhere(values > level_of_volume(values, volume)) * (2.1 / 32) - 1.05
    assert np.abs((inside.max(0) + inside.min(0)) / 2).max() < 0.034  # half a cell: the grid is not shifted
    assert inside.max(0) == pytest.approx([0.95, 0.2, 0.95], abs=0.07)


def test_level_encloses_the_volume_asked_for():
    values = np.linspace(0, 1, 33**3).reshape(33, 33, 33)
    level = level_of_volume(values, 1.5)
    assert (values > level).sum() * (2.1 / 32) ** 3 == pytest.approx(1.5, rel=1e-3)


def test_mean_shape_has_the_mean_volume_and_ignores_the_image(ellipsoids, tmp_path):
    method = fitted(MeanShape, "mean_shape", "mean", ellipsoids, tmp_path / "mean")
    images = np.stack([Split(ellipsoids, "test").image(i, 0) for i in range(SHAPES)])
    meshes = method.generate(images, rngs=[None] * SHAPES)
    assert all(np.array_equal(mesh.vertices, meshes[0].vertices) for mesh in meshes)
    solid = trimesh.Trimesh(meshes[0].vertices, meshes[0].faces, process=False)
    split = Split(ellipsoids, "train")
    _, volume = mean_occupancy(split, range(SHAPES), 32, smoothing=1.0)
    assert solid.volume == pytest.approx(volume, rel=0.15)  # positive: faces look outwards
    assert fault(meshes[0]) is None


@pytest.mark.parametrize("view", [0, 1])
def test_retrieval_finds_the_same_shape(ellipsoids, tmp_path, view):
    method = fitted(Retrieval, "retrieval", "index", ellipsoids, tmp_path / "index")
    test, train = Split(ellipsoids, "test"), Split(ellipsoids, "train")
    for i, name in enumerate(test.objects):
        found, _ = method.nearest(test.image(i, view))
        assert train.objects[found].split("/")[1] == name.split("/")[1]
    (mesh,) = method.generate(test.image(0, 0)[None], rngs=[None])
    assert isinstance(mesh, Mesh) and fault(mesh) is None
    assert np.ptp(mesh.vertices, axis=0).max() == pytest.approx(1.9, abs=1e-3)


def test_retrieval_returns_the_mesh_as_that_view_shows_it(ellipsoids, tmp_path):
    method = fitted(Retrieval, "retrieval", "index", ellipsoids, tmp_path / "index")
    train = Split(ellipsoids, "train")
    for i in range(SHAPES):
        for v in range(train.n_views):
            (mesh,) = method.generate(train.image(i, v)[None], rngs=[None])
            exact, _ = train.sample(i, v).mesh()
            assert np.ptp(mesh.vertices, axis=0)[:2] == pytest.approx(np.ptp(exact, axis=0)[:2], abs=0.16)  # two pixels


def test_retrieval_notices_other_objects(ellipsoids, tmp_path):
    method = fitted(Retrieval, "retrieval", "index", ellipsoids, tmp_path / "index")
    assert method.split.folder.resolve() == ellipsoids.resolve()
    path = tmp_path / "elsewhere" / "index"
    path.mkdir(parents=True)
    (path / "weights.safetensors").write_bytes((tmp_path / "index" / "weights.safetensors").read_bytes())
    with pytest.raises(UserError, match="no prepared shards"):
        Retrieval(params("retrieval")).load({"index": path}, "cpu")


def test_a_feature_ignores_colour_outside_the_silhouette():
    image = np.zeros((32, 32, 4), np.uint8)
    image[8:24, 4:28] = (90, 120, 150, 255)
    other = image.copy()
    other[image[..., 3] == 0, :3] = 255
    assert np.array_equal(feature(image, params("retrieval")["index"]), feature(other, params("retrieval")["index"]))


def test_the_template_sees_the_silhouette(ellipsoids, tmp_path):
    method = fitted(SilhouetteEllipsoid, "template", "depth", ellipsoids, tmp_path / "depth")
    test = Split(ellipsoids, "test")
    pole = test.image(test.objects.index("test/pole"), 0)
    (mesh,) = method.generate(pole[None], rngs=[np.random.default_rng(0)])
    sides = np.ptp(mesh.vertices, axis=0)
    assert sides[0] / sides[1] == pytest.approx(0.25 / 0.95, abs=0.1)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 0
    (empty,) = method.generate(np.zeros((1, 32, 32, 4), np.uint8), rngs=[np.random.default_rng(0)])
    assert empty.reason == "the image is empty"
