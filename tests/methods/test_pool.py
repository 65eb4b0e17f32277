"""Batches: shape and queries turn together, what lies outside the turned box is empty, rotated views by share."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.box import BOUND
from data import store
from data.store import Split
from methods.mar3d import examples
from methods.mar3d.examples import Examples
from methods.training import streaming
from methods.training.draws import WHOLE, Share
from methods.training.pool import SurfacePool, draw_views
from methods.training.streaming import GB, Images, Rows, SurfaceStream, fits, surfaces_of


@pytest.fixture(scope="module")
def split(prepared):
    return Split(prepared, "train")


@pytest.fixture(scope="module")
def pool(split):
    return SurfacePool(split, torch.device("cpu"))


def test_surface_is_that_of_the_sample_in_the_view_frame(split, pool):
    views = split.n_views
    objects, chosen = torch.arange(2).repeat_interleave(views), torch.arange(views).repeat(2)
    points, normals = pool.surface(objects, chosen)
    for row, (i, v) in enumerate(zip(objects.tolist(), chosen.tolist(), strict=True)):
        expected_points, expected_normals = split.sample(i, v).surface()
        np.testing.assert_allclose(points[row], expected_points, atol=2e-3)  # float16
        np.testing.assert_allclose(normals[row], expected_normals, atol=2e-3)


def test_queries_fill_the_box_and_labels_belong_to_them(split, pool):
    rotated = split.n_views - 1
    objects, views = torch.zeros(4, dtype=torch.int64), torch.full((4,), rotated)
    batch = pool.batch(objects, views, volume=600, near=600, generator=torch.Generator().manual_seed(0))
    assert batch.queries.shape == (4, 1200, 3) and batch.labels.shape == (4, 1200)
    uniform = batch.queries[:, :600].reshape(-1, 3)
    corners = (uniform.abs() > 0.8 * BOUND).all(1).float().mean()
    assert corners > 0.002  # of a rotated box alone, nearly nothing would lie there; uniform: 0.2^3 = 0.008
    # every positive query is a stored inside query, turned
    positions, labels, _ = split.sample(0, rotated).occupancy()
    inside = torch.from_numpy(positions[labels])
    found = batch.queries[batch.labels.bool()]
    assert len(found) > 50
    assert torch.cdist(found, inside).min(1).values.max() < 5e-3


def test_share_of_rotated_views():
    g = torch.Generator().manual_seed(0)
    views = draw_views(4000, 4, 12, 0.25, g)
    assert abs((views >= 4).float().mean() - 0.25) < 0.03 and views.min() == 0 and views.max() == 11
    assert draw_views(100, 4, 12, 0.0, g).max() == 3
    assert draw_views(100, 4, 4, 0.9, g).max() == 3  # nothing rotated was prepared


def same_batch(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("points", "normals", "queries", "labels"))


def test_streamed_batches_are_those_of_the_pool(split, pool):
    stream = surfaces_of(split, torch.device("cpu"), memory_gb=0)
    assert isinstance(stream, SurfaceStream) and len(stream) == len(pool)
    assert isinstance(surfaces_of(split, torch.device("cpu"), memory_gb=1), SurfacePool)
    objects = torch.tensor([3, 0, 3, 1])
    views = torch.tensor([0, split.n_views - 1, 1, 2])

    def batch(source, share=WHOLE, rows=slice(None)):
        size, g = {"volume": 300, "near": 400}, torch.Generator().manual_seed(0)
        return source.batch(objects[rows], views[rows], **size, generator=g, share=share)

    assert same_batch(batch(stream), batch(pool))
    half = batch(stream, Share(1, 2), slice(2, 4))
    assert torch.equal(half.queries, batch(pool).queries[2:]) and torch.equal(half.labels, batch(pool).labels[2:])


@pytest.fixture
def thinned(prepared):
    """A split of whose points a quarter is drawn."""
    split = Split(prepared, "train")
    split.drawn = split.params["points"] // 4
    return split


def sources(split):
    return [surfaces_of(split, torch.device("cpu"), memory_gb=gb) for gb in (0, 1)]


def test_without_a_generator_the_first_points_are_drawn(thinned):
    for source in sources(thinned):
        points, normals = source.surface(torch.tensor([1]), torch.tensor([2]))
        expected = thinned.sample(1, 2).surface()
        assert points.shape == (1, thinned.drawn, 3) == (1, *expected[0].shape)
        np.testing.assert_allclose(points[0], expected[0], atol=2e-3)
        np.testing.assert_allclose(normals[0], expected[1], atol=2e-3)


def test_draws_take_other_points_of_the_object_each_as_often(thinned):
    stored = thinned.params["points"]
    objects, views = torch.tensor([2, 0, 1, 2]), torch.zeros(4, dtype=torch.int64)
    taken = torch.zeros(stored)
    all_points = Split(thinned.folder, "train").sample(2, 0).surface()[0]
    stream, pool = sources(thinned)
    generators = [torch.Generator().manual_seed(0) for _ in range(3)]
    for _ in range(50):
        points, normals = pool.surface(objects, views, generators[0])
        assert all(map(torch.equal, (points, normals), stream.surface(objects, views, generators[1])))
        half = pool.surface(objects[2:], views[2:], generators[2], Share(1, 2))
        assert torch.equal(half[0], points[2:])
        for cloud in (points[0], points[3]):
            distances, rows = torch.cdist(cloud, torch.from_numpy(all_points)).min(1)
            assert distances.max() < 4e-3  # float16
            taken[rows] += 1
    assert (taken > 0).float().mean() > 0.95 and taken.sum() == 100 * thinned.drawn
    assert taken[: thinned.drawn].sum() < 0.5 * taken.sum()  # not always the first ones


def test_a_draw_decodes_no_points_but_its_own(thinned, monkeypatch):
    decoded = []
    decode = store.decode_positions
    monkeypatch.setattr(store, "decode_positions", lambda codes: decoded.append(len(codes)) or decode(codes))
    stream, _ = sources(thinned)
    decoded.clear()
    stream.surface(torch.tensor([1, 2]), torch.tensor([0, 3]), torch.Generator().manual_seed(0))
    thinned.sample(1, 2).surface()
    assert decoded == [thinned.drawn] * 3


def test_where_all_points_are_read_nothing_is_drawn_for_them(split, pool):
    generator = torch.Generator().manual_seed(0)
    objects, views = torch.tensor([1]), torch.tensor([0])
    assert torch.equal(pool.surface(objects, views, generator)[0], pool.surface(objects, views)[0])
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(0).get_state())


def test_occupancy_at_rows_is_that_of_all_rows(split):
    positions, labels, _ = split.occupancy(1)
    rows = np.random.default_rng(0).permutation(len(labels))
    found, inside = split.occupancy_at(1, rows)
    np.testing.assert_array_equal(found, positions[rows])
    np.testing.assert_array_equal(inside, labels[rows])


def test_images_are_decoded_once_and_stay_unless_they_do_not_fit(split, monkeypatch):
    objects, views = torch.tensor([1, 0, 1]), torch.tensor([2, 0, 2])
    expected = torch.from_numpy(np.stack([split.image(i, v) for i, v in [(1, 2), (0, 0), (1, 2)]]))
    decoded = []
    image = split.image
    monkeypatch.setattr(split, "image", lambda i, v: decoded.append((i, v)) or image(i, v))
    kept, read = (Images(split, torch.device("cpu"), memory_gb=gb) for gb in (1, 0))
    for _ in range(2):
        assert torch.equal(kept.rows(objects, views), expected)
    assert sorted(decoded) == [(0, 0), (1, 2)]
    assert torch.equal(read.rows(objects, views), expected) and len(decoded) == 5


def test_images_are_decoded_before_the_steps_where_they_stay(split, monkeypatch):
    kept, read = (Images(split, torch.device("cpu"), memory_gb=gb) for gb in (1, 0))
    expected = np.stack([[split.image(i, v) for v in range(split.n_views)] for i in range(len(split))])
    monkeypatch.setattr(streaming, "BLOCK", 3)
    kept.rows(torch.tensor([1]), torch.tensor([2]))
    kept.decode(2)
    assert np.array_equal(kept.kept.numpy(), expected)
    monkeypatch.setattr(split, "image", lambda *_: pytest.fail("decoded again"))
    assert np.array_equal(kept.rows(torch.tensor([0, 1]), torch.tensor([1, 2])).numpy(), expected[[0, 1], [1, 2]])
    kept.decode(2)
    read.decode(2)


@pytest.mark.parametrize("device, threads", [("cuda", [torch.get_num_threads()]), ("cpu", [])])
def test_on_a_gpu_images_are_decoded_before_the_steps(device, threads, monkeypatch):
    asked = []
    monkeypatch.setattr(examples, "Images", lambda *_, memory_gb: SimpleNamespace(decode=asked.append))
    source = SimpleNamespace(split=None, device=torch.device(device), room=1)
    Examples.condition_on(source, torch.nn.Identity())  # which is trained: nothing of it is cached
    assert asked == threads


def test_where_features_are_cached_no_room_is_taken_for_images(monkeypatch):
    stored = SimpleNamespace(rows=None)
    monkeypatch.setattr(examples, "cached_features", lambda *_: stored)
    monkeypatch.setattr(examples, "Images", lambda *_, **__: pytest.fail("asked for room"))
    source = SimpleNamespace(split=None, device=torch.device("cuda"), room=32)
    Examples.condition_on(source, torch.nn.Identity())
    assert source.images is stored


def test_data_leave_a_gpu_room_for_its_steps(monkeypatch):
    free, gpu = [80.0], torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free[0] * GB), 80 * GB))
    assert fits(32 * GB, gpu, 40) and not fits(33 * GB, gpu, 40) and not fits(32 * GB, gpu, 31)
    free[0] -= 20  # another kind of data, or another process
    assert fits(12 * GB, gpu, 40) and not fits(13 * GB, gpu, 40)
    assert fits(33 * GB, torch.device("cpu"), 40) and not fits(41 * GB, torch.device("cpu"), 40)


def test_rows_of_a_file_are_the_same_from_memory_and_from_disk(tmp_path):
    values = torch.arange(2 * 3 * 4).reshape(2, 3, 4).half()
    save_file({"lr": values}, tmp_path / "rows.safetensors")
    objects, views = torch.tensor([1, 0, 1]), torch.tensor([2, 0, 0])
    for gb in (0, 1):
        rows = Rows(tmp_path / "rows.safetensors", torch.device("cpu"), memory_gb=gb)
        assert torch.equal(rows.rows("lr", objects, views), values[objects, views])
