"""Steps and FLOPs of MAR-3D on made-up inputs of the true sizes, for `methods.foresee`; see `methods.contract.Step`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from methods.contract import Sizes, Step
from methods.layers.coarse_to_fine import GRID, evaluate
from methods.layers.diffusion import Diffusion
from methods.layers.image_encoder import build_image_encoder, made_up_networks
from methods.mar3d.examples import Batch, augment
from methods.mar3d.mar import MaskedAutoregressive, build_mar, mask_ratio
from methods.mar3d.pyramid_vae import PyramidVAE, build_vae
from methods.mar3d.sampling import is_guided, masked_after
from methods.training.draws import WHOLE
from methods.training.features import feature_bytes
from methods.training.flops import counted
from methods.training.weights import lowered

Params = Mapping[str, Any]

META = torch.device("meta")
MASKS = 3
"""Mask ratios that stand for MAR's: means of equal parts of its distribution, over which its cost is nearly linear."""
BALL = 0.8
"""Radius of the ball whose decoding stands for an object's."""


def vae_step(
    params: Params, shares: Mapping[str, float], sizes: Sizes, *, batch: int | None, device: torch.device | str
) -> Step:
    """A step of the VAE: one draw a bank, as often as `shares` says. batch: the configured one if None."""
    vae, latent, training = params["vae"], params["latent"], params["vae"]["training"]
    batch = batch or training["batch"]
    with torch.device(device):
        model = build_vae(vae, latent)
    generator = torch.Generator().manual_seed(0)
    queries = training["volume"] + training["near"]

    def loss(bank: str) -> Tensor:
        points, normals = surface(batch, sizes.points, generator, device)
        where = normal((batch, queries, 3), generator, device)
        labels = (normal((batch, queries), generator, device) < 0).float()
        noise = normal((batch, latent["tokens"][bank], latent["channels"]), generator, device)
        return model.loss(points, normals, where, labels, bank=bank, kl_weight=vae["kl_weight"], noise=noise)[0]

    draws = {bank: (share, functools.partial(loss, bank)) for bank, share in shares.items() if share > 0}
    return Step(model, draws, {**training, "batch": batch}, params["optimiser"], PyramidVAE.EDGES)


def mar_step(params: Params, name: str, sizes: Sizes, *, batch: int | None, device: torch.device | str) -> Step:
    """A step of MAR-LR (`lr`), MAR-HR (`hr`) or HR tokens directly (`hr_direct`): one draw for each of MASKS ratios.

    batch: the configured one if None.
    """
    mar, stage = params["mar"], params[f"mar_{name}"]
    batch = batch or stage["training"]["batch"]
    with torch.device(device):
        model = build_mar(params, name, sizes.image_size)
    generator = torch.Generator().manual_seed(0)
    diffusion = Diffusion(model.noise_steps, device=device, prediction=model.prediction)
    drawn = {"batch": batch, "device": device, "precision": stage["training"]["precision"]}
    examples, frozen = made_up(params, "lr" if name == "lr" else "hr", stage.get("augmentation"), sizes, **drawn)

    def loss(ratio: float) -> Tensor:
        return model.loss(
            *examples(),
            generator=generator,
            diffusion=diffusion,
            drop=mar["condition_drop"],
            mask={"low": ratio, "high": ratio},
            repeats=mar["diffusion_repeats"],
        )[0]

    draws = {f"mask_{r:.2f}": (1 / MASKS, functools.partial(loss, r)) for r in mask_means(mar["mask"], MASKS)}
    training = {**stage["training"], "batch": batch}
    frozen += made_up_networks(model.image_encoder, torch.device(device))
    return Step(model, draws, training, params["optimiser"], MaskedAutoregressive.EDGES, frozen)


def mask_means(mask: Mapping[str, float], parts: int) -> list[float]:
    """Means of equal parts of the distribution of `mar.mask_ratio`, from the smallest, by a thousand draws."""
    ratios = sorted(mask_ratio(torch.Generator().manual_seed(i), **mask) for i in range(1000))
    return [float(part.mean()) for part in np.array_split(ratios, parts)]


def made_up(
    params: Params,
    bank: str,
    augmentation: Mapping[str, float] | None,
    sizes: Sizes,
    *,
    batch: int,
    device: torch.device | str,
    precision: str,
) -> tuple[Callable[[], Batch], tuple[nn.Module, ...]]:
    """Batches as `examples.Examples` draws them, and the frozen VAE that encodes them where latents are not cached."""
    latent, generator = params["latent"], torch.Generator().manual_seed(1)
    vae = None
    if not latent["cache"]:
        with torch.device(device):
            vae = build_vae(params["vae"], latent).eval().requires_grad_(False)
        if torch.device(device) != META:  # where its bytes are counted, the tracer does the casting
            vae = lowered(vae, precision)

    @torch.no_grad()
    def latents(bank: str) -> Tensor:
        shape = (batch, latent["tokens"][bank], latent["channels"])
        noise = normal(shape, generator, device)
        if vae is None:
            return noise
        return vae.encode(*surface(batch, sizes.points, generator, device), bank).sample(noise)

    def draw() -> Batch:
        images = torch.zeros((batch, sizes.image_size, sizes.image_size, 4), dtype=torch.uint8, device=device)
        low = None
        if augmentation is not None:
            low = latents("lr")
            low = augment(low, augmentation["high"], normal(low.shape, generator, device))
        return Batch(images, latents(bank), low)

    return draw, () if vae is None else (vae,)


def kept_features(image_encoder: Params, views: int) -> dict[str, float]:
    """Bytes of the cached features of that many training views; nothing where they are computed as drawn."""
    if image_encoder["name"] != "clip_dinov2":
        return {}
    encoder = build_image_encoder(image_encoder, image_encoder["clip_dinov2"]["size"])
    size = float(sum(feature_bytes(encoder, views).values()))
    return {"image features": size} if size <= encoder.cache_gb * 1e9 else {}


def surface(batch: int, points: int, generator: torch.Generator, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Points and normals, each (batch, points, 3), of a ball."""
    normals = torch.nn.functional.normalize(normal((batch, points, 3), generator, device), dim=-1)
    return normals * BALL, normals


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Standard normal draws, made on the device (`draws.Share`); on the meta device there is nothing to draw."""
    if torch.device(device).type == "meta":
        return torch.empty(tuple(shape), device=device)
    return WHOLE.normal(tuple(shape), generator, torch.device(device))


def object_flops(params: Params, stages: Collection[str], sizes: Sizes) -> dict[str, float]:
    """FLOPs of one object, of sampling and of decoding, as `method.Cascade` does it with these stages."""
    sampling = params["sampling"]
    if "mar_hr_direct" in stages:
        return {
            "sample": sampling_flops(params, "hr_direct", sampling["hr"], sizes),
            "decode": decoding_flops(params, "hr"),
        }
    total = sampling_flops(params, "lr", sampling["lr"], sizes)
    if "mar_hr" in stages:
        total += sampling_flops(params, "hr", sampling["hr"], sizes)
    return {"sample": total, "decode": decoding_flops(params, "hr" if "mar_hr" in stages else "lr")}


@torch.no_grad()
def sampling_flops(params: Params, name: str, settings: Params, sizes: Sizes) -> float:
    """FLOPs of drawing one object's tokens, as `sampling.sample` does it (a test counts that and compares).

    A step's cost is a polynomial of second degree in the number of known tokens (linear layers, attention), so that
    three counts give it at every step of the schedule; the head's grows by the same for every token.
    """
    with META:
        model = build_mar(params, name, sizes.image_size).eval().requires_grad_(False)
        images = torch.zeros((1, sizes.image_size, sizes.image_size, 4), dtype=torch.uint8)
        low = torch.zeros((1, model.low_tokens, model.channels)) if model.low_tokens else None
        keep = torch.ones(1, dtype=torch.bool)
    copies = 2 if is_guided(settings) else 1  # with and without the image

    def buffers() -> Tensor:
        tokens = [model.condition(images, keep), model.null_condition(1)][:copies]
        return torch.cat([model.buffer(x, low) for x in tokens])

    def predict(known: int) -> int:
        latents = torch.zeros((copies, model.tokens, model.channels), device=META)
        places = torch.zeros((copies, known), dtype=torch.int64, device=META)
        return counted(lambda: model.predict(buffer, latents, places))[1]

    def head(new: int) -> int:
        x, z = (torch.zeros((copies * new, width), device=META) for width in (model.channels, buffer.shape[-1]))
        times = torch.zeros(settings["diffusion_steps"], device=META)

        def denoise() -> None:
            denoiser = model.head.at(times, z)
            for step in range(len(times)):
                denoiser(x, step)

        return counted(denoise)[1]

    buffer, conditioned = counted(buffers)
    at = np.array([0, model.tokens // 2, model.tokens])
    cost = np.polynomial.Polynomial.fit(at, [predict(int(known)) for known in at], 2)
    left = masked_after(model.tokens, settings["steps"], settings["schedule"])
    known = model.tokens - np.array([model.tokens, *left[:-1]])  # before each step
    per_token = head(2) - head(1)
    per_step = head(1) - per_token
    return float(conditioned + cost(known).sum() + len(known) * per_step + model.tokens * per_token)


@torch.no_grad()
def decoding_flops(params: Params, bank: str) -> float:
    """FLOPs of decoding one object's latents and evaluating its field where extraction asks, for a sharp ball."""
    with META:
        vae = build_vae(params["vae"], params["latent"]).eval().requires_grad_(False)
    shape = (1, params["latent"]["tokens"][bank], params["latent"]["channels"])
    keys, decoded = counted(lambda: vae.decode(torch.zeros(shape, device=META)))
    asked = 1000
    per_query = counted(lambda: vae.occupancy(keys, torch.zeros((1, asked, 3), device=META)))[1] / asked
    return decoded + per_query * ball_queries(**{key: params["extraction"][key] for key in GRID})


@torch.no_grad()
def encoding_flops(params: Params, bank: str, sizes: Sizes) -> float:
    """FLOPs of encoding one object's surface points."""
    with META:
        vae = build_vae(params["vae"], params["latent"]).eval().requires_grad_(False)
    points, normals = surface(1, sizes.points, torch.Generator(), META)
    return float(counted(lambda: vae.encode(points, normals, bank))[1])


@functools.cache
def ball_queries(**settings: Any) -> int:
    """How often `coarse_to_fine.evaluate` asks the field of a ball whose logits are far from 0 a node away."""
    asked = 0

    def field(points: np.ndarray) -> np.ndarray:
        nonlocal asked
        asked += len(points)
        return (1000 * (BALL - np.linalg.norm(points, axis=1))).astype(np.float32)

    evaluate(field, **settings)
    return asked
