"""Quantised positions and normals, and query positions that need no storage."""

import hashlib

import numpy as np
import pytest

from core.box import BOUND
from data.quantise import decode_normals, decode_positions, encode_normals, encode_positions, query_positions


def _directions(n, seed=0):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_positions_are_off_by_at_most_half_a_step():
    points = np.random.default_rng(0).uniform(-BOUND, BOUND, (20000, 3))
    error = np.abs(decode_positions(encode_positions(points)) - points).max()
    assert error <= BOUND / 65535 * 1.01  # 1.6e-5


def test_positions_outside_the_box_are_clipped():
    assert decode_positions(encode_positions([[2.0, -2.0, 0.0]]))[0] == pytest.approx([BOUND, -BOUND, 0], abs=2e-5)


def test_normals_are_unit_and_off_by_about_a_degree():
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    normals = np.concatenate([_directions(20000), axes])
    decoded = decode_normals(encode_normals(normals))
    assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-6)
    degrees = np.degrees(np.arccos(np.clip((decoded * normals).sum(1), -1, 1)))
    assert degrees.max() < 1.2
    assert decoded.dtype == np.float32


def test_query_positions_repeat_and_follow_their_distributions():
    surface = decode_positions(encode_positions(0.9 * _directions(512)))
    arguments = {"volume": 30000, "near": 30000, "sigmas": (0.005, 0.02)}
    positions = query_positions(surface, seed=7, **arguments)
    assert np.array_equal(positions, query_positions(surface, seed=7, **arguments))
    assert not np.array_equal(positions, query_positions(surface, seed=8, **arguments))
    assert positions.shape == (60000, 3) and positions.dtype == np.float32
    volume = positions[:30000]
    assert np.abs(volume).max() <= BOUND
    assert volume.mean(0) == pytest.approx([0, 0, 0], abs=0.02)
    assert volume.std(0) == pytest.approx([BOUND / 3**0.5] * 3, rel=0.02)
    assert np.corrcoef(volume.T)[np.triu_indices(3, 1)] == pytest.approx([0, 0, 0], abs=0.03)
    for sigma, part in ((0.005, positions[30000:45000]), (0.02, positions[45000:])):
        noise = part - surface[np.arange(15000) % 512]
        assert noise.std(0) == pytest.approx([sigma] * 3, rel=0.02)
        assert np.abs(noise).max() < 4.4 * sigma


def test_query_positions_never_change():
    """The bytes that a stored label belongs to: if this fails, every prepared dataset has become wrong."""
    positions = query_positions(np.full((1, 3), 0.5, np.float32), seed=1, volume=1000, near=1000, sigmas=(0.005, 0.02))
    codes = np.rint(positions.astype(np.float64) * 1e5).astype("<i4")  # coarser than the last bit of a libm
    assert hashlib.sha256(codes.tobytes()).hexdigest()[:16] == "b814553220ab20c5"


@pytest.mark.parametrize(("near", "sigmas"), [(0, (0.01,)), (7, (0.005, 0.02)), (5, (0.01,))])
def test_odd_counts(near, sigmas):
    positions = query_positions(np.zeros((3, 3), np.float32), seed=0, volume=5, near=near, sigmas=sigmas)
    assert positions.shape == (5 + near, 3) and np.isfinite(positions).all()
