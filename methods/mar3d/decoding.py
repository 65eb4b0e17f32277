"""From latents to fields and meshes: what all generators on the VAE's latents share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.store import Sample
from methods.contract import Failure, Mesh
from methods.layers.coarse_to_fine import GRID, Field, evaluate
from methods.layers.extraction import surface_of
from methods.mar3d.latents import load_vae
from methods.mar3d.pyramid_vae import PyramidVAE
from methods.training.flops import counted
from methods.training.loop import autocast
from methods.training.weights import lowered

CACHE = 4 << 20
"""Bytes of a layer's results that a core of a CPU keeps at hand."""
LEAST = 512
"""Query points in a chunk, at least."""


@torch.no_grad()
def field_viou(vae: PyramidVAE, latents: Tensor, sample: Sample, precision: str) -> float | None:
    """Volume IoU of the field of latents (1, tokens, channels), in the VAE's own units, with a view's true shape.

    On the stored volume queries, without alignment; None where no query lies inside of the truth.
    """
    queries, labels, volume = sample.occupancy()
    truth = labels[:volume]
    if not truth.any():
        return None
    with autocast(latents.device, precision):
        logits = vae.occupancy(vae.decode(latents), torch.from_numpy(queries[None, :volume]).to(latents.device))[0]
    inside = logits.cpu().numpy() > 0
    return float((inside & truth).sum() / (inside | truth).sum())


def field_of(vae: PyramidVAE, keys: tuple[Tensor, Tensor], precision: str) -> Field:
    """The field of one shape, of which `PyramidVAE.decode` gave the keys and values: these serve all its chunks."""
    device = keys[0].device

    @torch.no_grad()
    def field(points: np.ndarray) -> np.ndarray:
        chunks = torch.from_numpy(points).split(points_at_once(vae, keys))
        with autocast(device, precision):
            return torch.cat([vae.occupancy(keys, c[None].to(device))[0].cpu() for c in chunks]).numpy()

    return field


def points_at_once(vae: PyramidVAE, keys: tuple[Tensor, Tensor]) -> int:
    """How many query points the network is asked for at once: what its widest layer makes of them has to fit.

    On a CPU into CACHE bytes, beyond which they go by way of main memory: 1.6 times slower at scale `cpu`
    (benchmarks/README.md, decoder_queries). On a GPU into a share of what is free; the more, the fewer calls.
    """
    _, heads, tokens, _ = keys[0].shape
    bytes_each = 4 * max(vae.read.mlp[0].out_features, heads * tokens)
    room = CACHE
    if keys[0].device.type == "cuda":
        room = torch.cuda.mem_get_info(keys[0].device)[0] // 16
    return max(LEAST, room // bytes_each)


@torch.no_grad()
def decode_meshes(
    vae: PyramidVAE,
    latents: Tensor,
    extraction: Mapping[str, Any],
    precision: str,
    seconds: Mapping[str, float] | None = None,
) -> list[Mesh | Failure]:
    """One mesh for each of the latents (b, tokens, channels), in the VAE's own units."""
    results: list[Mesh | Failure] = []
    surface = surface_of(extraction["surface"])
    for row in latents:
        start = time.monotonic()
        with autocast(latents.device, precision):
            keys = vae.decode(row[None])

        values = evaluate(field_of(vae, keys, precision), **{key: extraction[key] for key in GRID})
        decoded = time.monotonic()  # the values are on the CPU: nothing is waited for
        found = surface(values)
        if found is None:
            results.append(Failure("the decoded field is empty: no point lies inside"))
            continue
        times = {**(seconds or {}), "decode": decoded - start, "mesh": time.monotonic() - decoded}
        results.append(Mesh(*found, times))
    return results


@torch.no_grad()
def reconstruct(
    vae: PyramidVAE, samples: Sequence[Sample], *, bank: str, precision: str, extraction: Mapping[str, Any]
) -> list[Mesh | Failure]:
    """One mesh a sample: its prepared surface points encoded and decoded again, in the view frame.

    The posterior's mean is decoded, so there is no randomness: the ceiling of every generator on the VAE's latents.
    """
    device = next(vae.parameters()).device
    surfaces = (sample.surface() for sample in samples)
    points, normals = (torch.from_numpy(np.stack(arrays)).to(device) for arrays in zip(*surfaces, strict=True))
    with autocast(device, precision):
        latents = vae.encode(points, normals, bank).mean
    return decode_meshes(vae, latents, extraction, precision)


def clock(device: torch.device) -> float:
    """Seconds, read when a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


class LatentGenerator(ABC):
    """What decodes the VAE's latents; a subclass says how they are sampled. Follows `methods.contract.Generator`."""

    def __init__(self, params: Mapping[str, Any], vae: Path, device: torch.device) -> None:
        self.params, self.device = params, device
        surface_of(params["extraction"]["surface"])  # a package that is not here is found before anything is sampled
        self.vae, self.scaling = load_vae(vae, device)
        self.precision: str = params["sampling"]["precision"]

    def held(self, module: nn.Module) -> nn.Module:
        """A frozen network, its weights cast to the precision of sampling once instead of at every use."""
        return lowered(module, self.precision)

    @abstractmethod
    def latents(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> tuple[str, Tensor]:
        """The bank, and standardised latents (b, tokens, channels), for images (b, h, w, 4) uint8.

        Called under autocast to `precision`, which the networks that `held` returns need.
        """

    def sample(self, images: np.ndarray, rngs: Sequence[np.random.Generator]) -> tuple[str, Tensor]:
        """What `latents` gives, under autocast to `precision`, for images (b, h, w, 4) uint8."""
        with autocast(self.device, self.precision):
            return self.latents(torch.from_numpy(images).to(self.device), rngs)

    @torch.no_grad()
    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Any] | None = None,
    ) -> list[Mesh | Failure]:
        """One mesh an image; `ground_truth` is not used. Encoding the condition counts as part of `sample`."""
        start = time.monotonic()
        bank, latents = self.sample(images, rngs)
        return self._decode(bank, latents, {"sample": (clock(self.device) - start) / len(images)})

    @torch.no_grad()
    def viou(self, samples: Sequence[Sample], *, rngs: Sequence[np.random.Generator]) -> list[float | None]:
        """Volume IoU of what is generated from each view's image with the true shape; see `field_viou`."""
        bank, latents = self.sample(np.stack([sample.image() for sample in samples]), rngs)
        restored = self.scaling.restore(bank, latents)
        return [field_viou(self.vae, row[None], s, self.precision) for row, s in zip(restored, samples, strict=True)]

    @torch.no_grad()
    def flops(self, images: np.ndarray, *, rngs: Sequence[np.random.Generator]) -> dict[str, float]:
        """FLOPs of one object by part, counted while these images are generated from; see `Generator.flops`."""
        (bank, latents), sampled = counted(lambda: self.sample(images, rngs))
        _, decoded = counted(lambda: self._decode(bank, latents))
        return {"sample": sampled / len(images), "decode": decoded / len(images)}

    def _decode(self, bank: str, latents: Tensor, seconds: Mapping[str, float] | None = None) -> list[Mesh | Failure]:
        restored = self.scaling.restore(bank, latents)
        return decode_meshes(self.vae, restored, self.params["extraction"], self.precision, seconds)
