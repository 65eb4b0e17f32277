"""Fewer bytes for the same shape: positions in 16 bits, normals in 2 bytes, and positions that need no bytes at all.

* positions: 65,536 steps over [-1.05, 1.05], so a step is 3.2e-5 and the error at most 1.6e-5;
* unit normals: octahedral map (Cigolle et al., "A Survey of Efficient Representations for Independent Unit
  Vectors", JCGT 2014) with 8 bits per coordinate, error at most about 1 degree;
* query positions: regenerated from a seed. They come from the raw 64-bit words of PCG64 and from integer
  arithmetic, not from `Generator.normal`, whose stream NumPy may change between versions.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy.special import ndtri

from core.box import BOUND

STEPS = 65535


def encode_positions(positions: np.ndarray) -> np.ndarray:
    """Positions (…, 3) to uint16; outside the box they are clipped to its boundary."""
    scaled = np.rint((np.asarray(positions, np.float64) + BOUND) * (STEPS / (2 * BOUND)))
    return np.clip(scaled, 0, STEPS).astype(np.uint16)


def decode_positions(codes: np.ndarray) -> np.ndarray:
    """uint16 codes (…, 3) to float32 positions in the box."""
    return (codes.astype(np.float64) * (2 * BOUND / STEPS) - BOUND).astype(np.float32)


def _sign(values: np.ndarray) -> np.ndarray:
    return np.where(values >= 0, 1.0, -1.0)


def encode_normals(normals: np.ndarray) -> np.ndarray:
    """Unit normals (…, 3) to octahedral uint8 (…, 2)."""
    normals = np.asarray(normals, np.float64)
    norm = np.abs(normals).sum(-1, keepdims=True)
    flat = normals / np.where(norm > 0, norm, 1.0)
    folded = (1 - np.abs(flat[..., 1::-1])) * _sign(flat[..., :2])
    square = np.where(flat[..., 2:] < 0, folded, flat[..., :2])
    return np.clip(np.rint((square + 1) * 127.5), 0, 255).astype(np.uint8)


def decode_normals(codes: np.ndarray) -> np.ndarray:
    """Octahedral uint8 (…, 2) to float32 unit normals (…, 3)."""
    square = codes.astype(np.float32) / 127.5 - 1
    z = 1 - np.abs(square).sum(-1, keepdims=True)
    folded = (1 - np.abs(square[..., ::-1])) * _sign(square)
    normals = np.concatenate([np.where(z < 0, folded, square), z], -1).astype(np.float32)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


@functools.cache
def _normal_table() -> np.ndarray:
    """Quantiles of the standard normal distribution at (k + 1/2) / 65536; the outermost is 4.3."""
    return ndtri((np.arange(65536) + 0.5) / 65536).astype(np.float32)


def query_positions(surface: np.ndarray, *, seed: int, volume: int, near: int, sigmas: tuple[float, ...]) -> np.ndarray:
    """Where occupancy is stored: (volume + near, 3) float32, the same for the same arguments on every machine.

    `surface` (N, 3) are the stored surface points as a reader decodes them. The first `volume` rows are uniform in
    the box (21 bits per coordinate, of one word each). The `near` rows fall into equal runs, one per entry of
    `sigmas`: surface point i mod N plus that sigma times a normal variable of 16 bits per coordinate.
    """
    words = np.random.PCG64(seed).random_raw(volume + near)
    out = np.empty((volume + near, 3), np.float32)
    shifts = np.array([0, 21, 42], np.uint64)
    bits = (words[:volume, None] >> shifts) & np.uint64(2**21 - 1)
    out[:volume] = (bits.astype(np.float64) + 0.5) * (2 * BOUND / 2**21) - BOUND
    noise = _normal_table()[words[volume:].astype("<u8").view("<u2").reshape(-1, 4)[:, :3]]
    bounds = [near * k // len(sigmas) for k in range(len(sigmas) + 1)]
    for sigma, start, stop in zip(sigmas, bounds, bounds[1:], strict=False):
        anchor = surface[np.arange(stop - start) % len(surface)]
        out[volume + start : volume + stop] = anchor + np.float32(sigma) * noise[start:stop]
    return np.clip(out, -BOUND, BOUND)


def query_positions_at(
    rows: np.ndarray, surface: np.ndarray, *, seed: int, volume: int, near: int, sigmas: tuple[float, ...]
) -> np.ndarray:
    """Rows (n,) of `query_positions`, without making the others."""
    words = np.random.PCG64(seed).random_raw(volume + near)[rows]
    out, uniform = np.empty((len(rows), 3), np.float32), rows < volume
    bits = (words[uniform, None] >> np.array([0, 21, 42], np.uint64)) & np.uint64(2**21 - 1)
    out[uniform] = (bits.astype(np.float64) + 0.5) * (2 * BOUND / 2**21) - BOUND
    noise = _normal_table()[words[~uniform].astype("<u8").view("<u2").reshape(-1, 4)[:, :3]]
    bounds = np.array([near * k // len(sigmas) for k in range(len(sigmas) + 1)])
    place = rows[~uniform] - volume
    run = np.searchsorted(bounds, place, side="right") - 1
    anchor = surface[(place - bounds[run]) % len(surface)]
    out[~uniform] = anchor + np.array(sigmas, np.float32)[run, None] * noise
    return np.clip(out, -BOUND, BOUND)
