"""Training the VAE, measuring it, and leaving what generators read: its latents or their statistics."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.files import write_json
from core.randomness import seed_of
from data.store import Split
from methods.contract import PreparedData
from methods.mar3d.decoding import field_viou
from methods.mar3d.latents import FILE as LATENTS
from methods.mar3d.latents import cache_bytes, encode_views, every_view, keep, keeps, save_vae, statistics
from methods.mar3d.pyramid_vae import BANKS, PyramidVAE, build_vae
from methods.training import processes
from methods.training.draws import Share
from methods.training.loop import autocast, seeded, train
from methods.training.phases import phases_of
from methods.training.pool import Surfaced, Surfaces, draw_views, view_shares
from methods.training.streaming import surfaces_of

MEASURED_OBJECTS = 10000
"""How many training objects latent statistics are measured on where the latents are not kept."""


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
    # On a GPU in smaller parts: in float64 one of 4096 would take gigabytes.
    by = {"device": device, **({} if device.type == "cpu" else {"rows": 256})}
    measured = {bank: statistics(p, weights, **by) for bank, p in posteriors.items()}
    scaling = {f"{bank}.{k}": measured[bank][k] for bank in BANKS for k in ("mean", "std")}
    save_vae(out, model, scaling, {"vae": vae, "latent": latent})
    if kept:
        keep(out, split, posteriors)
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
        partial=len(latent["tokens"]) > 1,  # the queries of the other banks
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
