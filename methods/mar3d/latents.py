"""Latents of the training views: encoded once by the frozen VAE, standardised, resampled at every draw.

Their posteriors lie beside the VAE's weights, in FILE, which is a cache: it says of which weights and views it is, and
whoever misses it, or finds another's, makes it again.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.errors import UserError
from core.files import locked
from core.identity import params_key
from core.progress import Progress
from data.store import Split
from methods.manifest import data_hash, files_hash
from methods.mar3d.pyramid_vae import BANKS, Posterior, PyramidVAE, build_vae
from methods.training.checkpoint import save_tensors
from methods.training.draws import WHOLE, Share
from methods.training.flops import counted
from methods.training.loop import autocast
from methods.training.pool import Surfaced
from methods.training.streaming import Rows
from methods.training.weights import FILE as WEIGHTS
from methods.training.weights import frozen, load_weights, lowered, save_weights

FILE = "latents.safetensors"
CACHE_BYTES = 16e9
"""The most that the kept latents may take; they are made in memory."""


@torch.no_grad()
def encode_views(
    vae: PyramidVAE, pool: Surfaced, objects: Tensor, views: Tensor, precision: str, batch: int = 64
) -> dict[str, Tensor]:
    """Posteriors of views (n,) of objects (n,) by bank: (n, tokens, 2 * channels) float16, on the CPU.

    The last axis holds the mean, then the log variance. Reads the first of each object's stored points, as validation
    does, so that what is kept depends on object and view alone.
    """
    found: dict[str, Tensor] = {}
    progress = Progress("encode", len(objects))
    for rows in torch.arange(len(objects)).split(batch):
        points, normals = pool.surface(objects[rows], views[rows])
        with autocast(pool.device, precision):
            for bank in BANKS:
                posterior = vae.encode(points, normals, bank)
                part = torch.cat([posterior.mean, posterior.log_variance], -1).half().cpu()
                if bank not in found:
                    found[bank] = torch.empty((len(objects), *part.shape[1:]), dtype=part.dtype)
                found[bank][rows] = part
        progress.update(int(rows[-1]) + 1)
    return found


def cache_bytes(latent: Mapping[str, Any], posteriors: int) -> int:
    """What that many posteriors take, of all banks, as `encode_views` returns them."""
    return posteriors * sum(latent["tokens"][bank] for bank in BANKS) * 2 * latent["channels"] * 2


def keeps(latent: Mapping[str, Any], posteriors: int) -> bool:
    """Whether the VAE's stage keeps that many posteriors beside its weights."""
    return latent["cache"] and cache_bytes(latent, posteriors) <= CACHE_BYTES


def every_view(split: Split) -> tuple[Tensor, Tensor]:
    """Objects and views, each (objects * views,), of which the posteriors are kept."""
    n, views = len(split), split.n_views
    return torch.arange(n).repeat_interleave(views), torch.arange(views).repeat(n)


def key_of(stage: Path, split: Split) -> str:
    """What the kept posteriors are of: the stage's weights, and the views of the split."""
    return params_key([files_hash(stage, [stage / WEIGHTS]), data_hash(split.folder, split.name), split.n_views])


def keep(stage: Path, split: Split, posteriors: Mapping[str, Tensor]) -> None:
    """Write the posteriors of `every_view` of the split, by bank, beside the weights, which are there already."""
    tensors = {bank: p.unflatten(0, (-1, split.n_views)) for bank, p in posteriors.items()}
    save_tensors(stage / FILE, tensors, {"key": key_of(stage, split)})


def kept_for(stage: Path, split: Split) -> bool:
    """Whether the stage keeps the posteriors of this split. Raises UserError for a file that cannot be read."""
    if not (stage / FILE).exists():
        return False
    try:
        with safe_open(stage / FILE, framework="np") as file:
            return (file.metadata() or {}).get("key") == key_of(stage, split)
    except SafetensorError as error:
        raise UserError(f"{stage / FILE} cannot be read ({error}): delete it, and it is made again") from error


def make_again(stage: Path, split: Split, surfaces: Callable[[], Surfaced], device: torch.device) -> None:
    """Encode the posteriors that a VAE's stage keeps, where they did not come along with its weights, or are of others.

    On one machine they are the same bytes again. Of several processes one encodes, and the others wait for it.
    surfaces: reads those of the split; not called where nothing is encoded.
    """
    params = load_weights(stage, torch.device("cpu"))[0]["params"]
    if not keeps(params["latent"], len(split) * split.n_views):
        return
    with locked(stage / ".latents.lock"):
        if not kept_for(stage, split):
            state = (
                f"holds the {FILE} of other views or weights"
                if (stage / FILE).exists()
                else f"has come without its {FILE}"
            )
            print(f"{stage} {state}: encoding the views again", file=sys.stderr, flush=True)
            vae, precision = load_vae(stage, device)[0], params["vae"]["training"]["precision"]
            posteriors = encode_views(lowered(vae, precision), surfaces(), *every_view(split), precision)
            keep(stage, split, posteriors)


def statistics(
    posteriors: Tensor, weights: Tensor | None = None, rows: int = 4096, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Per-channel mean and standard deviation (channels,) of samples of the posteriors, and the share of noise.

    posteriors: (n, tokens, 2 * channels). weights: (n,), how often each is drawn; all alike if None. rows: taken at
    once, by the device that adds them up. Returned on the CPU. `noise` is the posterior's standard deviation over the
    aggregate one: near 1 for a dead channel.
    """
    weights = torch.ones(len(posteriors)) if weights is None else weights
    shares = (weights.double() / weights.sum()).to(device)
    sums = torch.zeros(3, posteriors.shape[-1] // 2, dtype=torch.float64, device=device)  # of mean, square, variance
    for part, share in zip(posteriors.split(rows), shares.split(rows), strict=True):
        mean, log_variance = part.to(device).double().chunk(2, -1)
        sums += torch.stack([torch.einsum("n,ntc->c", share, x) for x in (mean, mean.square(), log_variance.exp())])
    mean, square, variance = sums.cpu() / posteriors.shape[1]
    std = (square - mean.square() + variance).sqrt()
    return {"mean": mean.float(), "std": std.float(), "noise": (variance.sqrt() / std).float()}


class LatentPool:
    """Standardised latents of the training views: read from the VAE stage's cache, or encoded as they are drawn."""

    def __init__(
        self, stage: Path, pool: Surfaced | None, device: torch.device, precision: str, memory_gb: float = math.inf
    ) -> None:
        """stage: folder of the fitted VAE. pool: the surfaces to encode from; without them the stage's cache is read.

        memory_gb: a larger cache stays on disk.
        """
        vae, self.scaling = load_vae(stage, device)
        self.vae = lowered(vae, precision)
        self.pool, self.precision, self.device = pool, precision, device
        self.encoding = threading.Lock()
        self.cache = Rows(stage / FILE, device, memory_gb=memory_gb) if pool is None else None

    @torch.no_grad()
    def draw(
        self, bank: str, objects: Tensor, views: Tensor, generator: torch.Generator, share: Share = WHOLE
    ) -> Tensor:
        """A posterior sample for each (object, view): (b, tokens, channels) float32, zero mean, unit variance."""
        if self.cache is not None:
            mean, log_variance = self.cache.rows(bank, objects, views).float().chunk(2, -1)
            posterior = Posterior(mean, log_variance)
        else:
            # In full precision: rotations would displace points.
            points, normals = self.pool.surface(objects, views, generator, share)
            # One at a time: batches are drawn by several threads, and an encoding takes gigabytes at the paper's size.
            with self.encoding, autocast(self.device, self.precision):
                posterior = self.vae.encode(points, normals, bank)
        noise = share.normal(posterior.mean.shape, generator, self.device)
        return self.scaling.standardise(bank, posterior.sample(noise))

    @torch.no_grad()
    def drawing_flops(self, bank: str) -> int:
        """Operations of the VAE for each (object, view) of a draw; none where latents are read from the cache.

        Counted on one object, outside of the draws: threads make those, and a counter sees all threads' modules.
        """
        if self.cache is not None:
            return 0
        points, normals = self.pool.surface(torch.tensor([0]), torch.tensor([0]))
        with autocast(self.device, self.precision):
            return counted(lambda: self.vae.encode(points, normals, bank))[1]


class Scaling:
    """Per-channel standardisation of each bank's latents, stored with the VAE's weights."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def standardise(self, bank: str, latents: Tensor) -> Tensor:
        """(x - mean) / std."""
        return (latents - self.tensors[f"{bank}.mean"]) / self.tensors[f"{bank}.std"]

    def restore(self, bank: str, latents: Tensor) -> Tensor:
        """x * std + mean."""
        return latents * self.tensors[f"{bank}.std"] + self.tensors[f"{bank}.mean"]


def save_vae(stage: Path, vae: PyramidVAE, scaling: Mapping[str, Tensor], params: Mapping[str, Any]) -> None:
    """Write weights, latent statistics and the parameters to rebuild the module into the stage's folder."""
    tensors = {f"vae.{k}": v for k, v in vae.state_dict().items()} | {f"scaling.{k}": v for k, v in scaling.items()}
    save_weights(stage, tensors, {"params": params})


def load_vae(stage: Path, device: torch.device) -> tuple[PyramidVAE, Scaling]:
    """The frozen VAE of a fitted stage and its latent statistics."""
    header, tensors = load_weights(stage, device)
    parts: dict[str, dict[str, Tensor]] = {"vae": {}, "scaling": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    params = header["params"]
    return frozen(build_vae(params["vae"], params["latent"]), parts["vae"], device), Scaling(parts["scaling"])
