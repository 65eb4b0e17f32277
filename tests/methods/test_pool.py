"""Batches: shape and queries turn together, what lies outside the turned box is empty, rotated views by share."""

import numpy as np
import pytest
import torch

from data.store import Split
from methods.training.pool import BOUND, SurfacePool, draw_views


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
