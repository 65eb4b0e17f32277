"""MAR-3D: the stages `vae`, `mar_lr`, `mar_hr`, `mar_hr_direct`, and the cascade that generates with them."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.files import write_json
from core.randomness import seed_of
from data.store import Sample, Split
from methods.contract import Failure, Mesh, PreparedData, Sizes, Step
from methods.layers.clip_dinov2 import check_identity, frozen_identity
from methods.layers.diffusion import Diffusion
from methods.layers.extraction import GRID, evaluate, surface_of
from methods.mar3d import foresee
from methods.mar3d.examples import Batch, Examples, augment
from methods.mar3d.latents import FILE as LATENTS
from methods.mar3d.latents import cache_bytes, encode_views, every_view, keep, keeps, load_vae, save_vae, statistics
from methods.mar3d.mar import MaskedAutoregressive, build_mar
from methods.mar3d.pyramid_vae import BANKS, PyramidVAE, build_vae
from methods.mar3d.sampling import sample
from methods.training import processes
from methods.training.draws import Share
from methods.training.flops import counted
from methods.training.loop import autocast, device_of, seeded, train
from methods.training.phases import phases_of
from methods.training.pool import Surfaced, Surfaces, draw_views, view_shares
from methods.training.streaming import surfaces_of
from methods.training.weights import frozen, load_weights, lowered, save_weights, warm_start

BANK = {"mar_lr": "lr", "mar_hr": "hr", "mar_hr_direct": "hr"}
"""The bank of the VAE's queries whose tokens each stage generates."""

MEASURED_OBJECTS = 10000
"""How many training objects latent statistics are measured on where the latents are not kept."""


class Mar3D:
    """The method of `config.yaml` at one variant and scale."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Train one of the stages; see `methods.contract.Method.fit`."""
        device = device_of()
        if stage == "vae":
            fit_vae(self.params, data, out=out, seed=seed, device=device)
        else:
            start = upstream.get("mar_lr")
            fit_mar(self.params, stage, data, vae=upstream["vae"], start=start, out=out, seed=seed, device=device)

    def load(self, stages: Mapping[str, Path], device: str) -> Cascade:
        """The cascade of the stages there are."""
        return Cascade(self.params, stages, device_of(device))

    def step_of(self, stage: str, sizes: Sizes, *, upstream: Mapping[str, Any], batch: int | None, device: str) -> Step:
        """See `methods.contract.Method`."""
        if stage == "vae":
            return foresee.vae_step(self.params, bank_shares(self.params), sizes, batch=batch, device=device)
        return foresee.mar_step(self.params, stage.removeprefix("mar_"), sizes, batch=batch, device=device)

    def object_flops(self, stages: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
        """See `methods.contract.Method`."""
        return foresee.object_flops(self.params, stages, sizes)

    def kept_bytes(self, views: int) -> dict[str, float]:
        """See `methods.contract.Method`."""
        latent = self.params["latent"]
        kept = {"latents": float(cache_bytes(latent, views))} if keeps(latent, views) else {}
        return kept | foresee.kept_features(self.params["image_encoder"], views)


# ---------------------------------------------------------------- training


def fit_vae(params: Mapping[str, Any], data: PreparedData, *, out: Path, seed: int, device: torch.device) -> None:
    """Train the VAE, measure it on the validation objects, encode the training views."""
    vae, latent, precision = params["vae"], params["latent"], params["vae"]["training"]["precision"]
    split, hardware = Split(data.folder, "train"), params["hardware"]
    pool = surfaces_of(split, device, memory_gb=hardware["memory_gb"], readers=hardware["workers"])
    model = train_vae(params, split, pool, bank_shares(params), out=out, seed=seed, device=device)
    if not processes.first():
        return
    viou = {bank: reconstruction_viou(model, Split(data.folder, "val"), bank, device, precision) for bank in BANKS}
    n, views, upright = len(split), split.n_views, len(split.upright_views)
    kept = keeps(latent, n * views)
    if latent["cache"] and not kept:
        taken = f"{cache_bytes(latent, n * views) / 1e9:.0f} GB"
        print(f"the latents of all views would take {taken}: they are encoded as they are drawn", file=sys.stderr)
    # The statistics are those of what generators draw: rotated views as often as here.
    if kept:
        objects, chosen = every_view(split)
        weights = view_shares(upright, views, vae["rotated_share"])[chosen]
    else:
        generator = torch.Generator().manual_seed(seed_of("statistics", "vae", seed))
        # Any of them, since a list may be in some order; sorted, since shards are read one after the other.
        objects, weights = torch.randperm(n, generator=generator)[:MEASURED_OBJECTS].sort().values, None
        chosen = draw_views(len(objects), upright, views, vae["rotated_share"], generator)
    posteriors = encode_views(model, pool, objects, chosen, precision)
    measured = {bank: statistics(p, weights) for bank, p in posteriors.items()}
    if kept:
        keep(out, posteriors, views)
    scaling = {f"{bank}.{k}": measured[bank][k] for bank in BANKS for k in ("mean", "std")}
    save_vae(out, model, scaling, {"vae": vae, "latent": latent})
    noise = {bank: [round(x, 4) for x in measured[bank]["noise"].tolist()] for bank in BANKS}
    caches = {"caches": [LATENTS]} if kept else {}
    write_json(out / "measured.json", {"dtype": precision, "val_viou": viou, "posterior_noise": noise} | caches)


def bank_shares(params: Mapping[str, Any]) -> dict[str, float]:
    """How often a step of the VAE trains each bank."""
    return {"lr": params["vae"]["lr_share"], "hr": 1 - params["vae"]["lr_share"]}


def train_vae(
    params: Mapping[str, Any],
    split: Split,
    pool: Surfaced,
    shares: Mapping[str, float],
    *,
    out: Path,
    seed: int,
    device: torch.device,
) -> PyramidVAE:
    """Train the VAE of `vae`, `latent` and `optimiser`; a step trains one bank, drawn by its share."""
    vae, latent, training = params["vae"], params["latent"], params["vae"]["training"]
    model = seeded(lambda: build_vae(vae, latent), "vae", seed).to(device)

    phases = phases_of(split, training)

    def draw(generator: torch.Generator, share: Share) -> tuple[str, Surfaces]:
        objects = phases.draw(share.step, training["batch"], generator)
        views = draw_views(len(objects), len(split.upright_views), split.n_views, vae["rotated_share"], generator)
        bank = pick(shares, float(torch.rand((), generator=generator)))
        size = {"volume": training["volume"], "near": training["near"]}
        return bank, pool.batch(share.rows(objects), share.rows(views), **size, generator=generator, share=share)

    def loss(drawn: tuple[str, Surfaces], generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        bank, batch = drawn
        shape = (len(batch.points), latent["tokens"][bank], latent["channels"])
        noise = share.normal(shape, generator, device)
        return model.loss(
            batch.points, batch.normals, batch.queries, batch.labels, bank=bank, kl_weight=vae["kl_weight"], noise=noise
        )

    train(
        model,
        draw,
        loss,
        name="vae",
        seed=seed,
        out=out,
        optimiser=params["optimiser"],
        training=training,
        hardware=params["hardware"],
        edges=PyramidVAE.EDGES,
    )
    return model


def pick(shares: Mapping[str, float], at: float) -> str:
    """The name at place `at` of [0, 1), each name holding its share, in order; shares sum to 1."""
    end = 0.0
    for name, share in shares.items():
        end += share
        if at < end:
            return name
    return name  # rounding of the sum


@torch.no_grad()
def reconstruction_viou(
    vae: PyramidVAE, split: Split, bank: str, device: torch.device, precision: str
) -> dict[str, float]:
    """Volume IoU of decoded posterior means over a split's first upright view, on its stored volume queries.

    Returns the mean over objects, its standard error, and n.
    """
    scores = []
    for i in range(len(split)):
        view = split.sample(i, split.upright_views[0])
        points, normals = (torch.from_numpy(a)[None].to(device) for a in view.surface())
        with autocast(device, precision):
            latents = vae.encode(points, normals, bank).mean
        score = field_viou(vae, latents, view, precision)
        if score is not None:
            scores.append(score)
    spread = float(np.std(scores, ddof=1) / len(scores) ** 0.5) if len(scores) > 1 else float("nan")
    return {"mean": float(np.mean(scores)), "standard_error": spread, "n": len(scores)}


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


def fit_mar(
    params: Mapping[str, Any],
    stage: str,
    data: PreparedData,
    *,
    vae: Path,
    start: Path | None = None,
    out: Path,
    seed: int,
    device: torch.device,
) -> None:
    """Train `mar_lr`, `mar_hr` or `mar_hr_direct` on the frozen VAE's latents; start: a stage to begin from."""
    mar, training, bank = params["mar"], params[stage]["training"], BANK[stage]
    examples = Examples(
        data,
        vae,
        bank,
        training=training,
        rotated_share=mar["rotated_share"],
        augmentation=params[stage].get("augmentation"),
        device=device,
        hardware=params["hardware"],
    )
    name = stage.removeprefix("mar_")
    model = seeded(lambda: build_mar(params, name, examples.image_size), "mar", name, seed).to(device)
    if start is not None:
        warm_start(model, start, also={"embed_low": "embed_latent"})
    drawn = examples.condition_on(model.image_encoder)
    behind = frozen_identity(model.image_encoder, out / "resume")
    diffusion = Diffusion(model.noise_steps, device=device, prediction=model.prediction)

    def loss(batch: Batch, generator: torch.Generator, share: Share) -> tuple[Tensor, dict[str, Tensor]]:
        return model.loss(
            *batch,
            generator=generator,
            share=share,
            diffusion=diffusion,
            drop=mar["condition_drop"],
            mask=mar["mask"],
            repeats=mar["diffusion_repeats"],
        )

    train(
        model,
        examples.draw,
        loss,
        name=stage,
        seed=seed,
        out=out,
        optimiser=params["optimiser"],
        training=training,
        hardware=params["hardware"],
        edges=MaskedAutoregressive.EDGES,
        drawing_flops=examples.drawing_flops(),
    )
    if not processes.first():
        return
    used = {"mar": mar, "latent": params["latent"], "image_encoder": params["image_encoder"]}
    save_weights(out, model.state_dict(), {"params": used, "image_size": examples.image_size} | behind)
    write_json(out / "measured.json", {"dtype": training["precision"]} | behind | drawn)


# ---------------------------------------------------------------- generation


def clock(device: torch.device) -> float:
    """Seconds, read when a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def load_mar(stage: Path, name: str, device: torch.device) -> MaskedAutoregressive:
    """A fitted MAR by its name for `build_mar`: `lr`, `hr` or `hr_direct`."""
    header, tensors = load_weights(stage, device)
    model = frozen(build_mar(header["params"], name, header["image_size"]), tensors, device)
    check_identity(model.image_encoder, header.get("image_encoder"), stage)
    return model


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


class Cascade(LatentGenerator):
    """Image to LR tokens to HR tokens to occupancy to mesh.

    Without `mar_hr` among the stages, the LR tokens are decoded; with `mar_hr_direct`, there are none.
    """

    def __init__(self, params: Mapping[str, Any], stages: Mapping[str, Path], device: torch.device) -> None:
        super().__init__(params, stages["vae"], device)
        self.lr, self.hr, self.direct = (
            self.held(load_mar(stages[f"mar_{name}"], name, device)) if f"mar_{name}" in stages else None
            for name in ("lr", "hr", "hr_direct")
        )

    def latents(self, images: Tensor, rngs: Sequence[np.random.Generator]) -> tuple[str, Tensor]:
        """See `LatentGenerator.latents`."""
        sampling = self.params["sampling"]
        if self.direct is not None:
            return "hr", sample(self.direct, images, None, rngs=rngs, params=sampling["hr"])
        latents = sample(self.lr, images, None, rngs=rngs, params=sampling["lr"])
        if self.hr is None:
            return "lr", latents
        low = noised(latents, sampling["hr"]["augmentation"], rngs)
        return "hr", sample(self.hr, images, low, rngs=rngs, params=sampling["hr"])


def noised(latents: Tensor, t: float, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Condition augmentation of generated LR tokens (b, tokens, channels), each row from its own generator."""
    draws = np.stack([rng.standard_normal(latents.shape[1:], dtype=np.float32) for rng in rngs])
    return augment(latents, t, torch.from_numpy(draws).to(latents.device))


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

        def field(points: np.ndarray, keys: tuple[Tensor, Tensor] = keys) -> np.ndarray:
            chunks = torch.from_numpy(points).split(extraction["chunk"])
            with autocast(latents.device, precision):
                return torch.cat([vae.occupancy(keys, c[None].to(latents.device))[0].cpu() for c in chunks]).numpy()

        values = evaluate(field, **{key: extraction[key] for key in GRID})
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
