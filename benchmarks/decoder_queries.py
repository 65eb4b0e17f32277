"""Occupancy queries: the share of the machine's matrix rate, cached keys and values, bf16, chunk sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.growth import Curve
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import PRECISIONS, cast, matmul_rate, params_of, randomised, wait_of
from benchmarks.options import Options
from benchmarks.result import Equality, Outcome, Row, Target
from methods.mar3d.pyramid_vae import PyramidVAE, build_vae
from methods.training.flops import counted

SUMMARY = "queries of the occupancy decoder, one shape, HR tokens"
CHUNKS = (1024, 4096, 16384, 65536)
CACHED, BF16 = 1e-5, 0.1
TRIED = "The rest is elementwise (GELU, softmax, norms, sine and cosine), in float32 under autocast."
WHY = "queries do not see each other"


def run(options: Options) -> Outcome:
    """All rows and curves of the path: of the scale's network, and of the paper's, whose products are larger."""
    rows = measured(options, 2048 if options.quick else 65536, (512, 1024, 2048) if options.quick else CHUNKS)
    if not options.quick and options.scale != "paper":
        rows += measured(replace(options, scale="paper"), 16384, CHUNKS[:3])
    return Outcome("decoder_queries", tuple(rows), growth(options), (
        "FLOPs are those of matrix products and attention. The rate is that of the best square product of this run.",
    ))  # fmt: skip


def measured(options: Options, n: int, chunks: tuple[int, ...]) -> list[Row]:
    """Rows of the network of the scale, asked for n points in chunks of several sizes."""
    vae, context = built(options)
    generator = torch.Generator().manual_seed(3)
    points = (torch.rand(n, 3, generator=generator) * 2 - 1).to(options.device)
    rate = {p: matmul_rate(p, options.device, quick=options.quick) for p in PRECISIONS}
    flops = counted(lambda: cached(vae, context, points, n, options, "fp32")())[1]
    who = f"width {vae.from_latent.out_features}, {n} queries"

    calls = {(p, c): cached(vae, context, points, c, options, p) for p in PRECISIONS for c in chunks}
    taken = interleaved(calls, rounds=5, seconds=1 if options.quick else 40, wait=wait_of(options.device))
    shares = {key: flops / spread(times).median / rate[key[0]] for key, times in taken.items()}
    rows = []
    for precision in PRECISIONS:
        chunk = max(chunks, key=lambda c, p=precision: shares[p, c])
        share = shares[precision, chunk]
        sweep = ", ".join(f"{c}: {shares[precision, c]:.0%}" for c in chunks)
        pair = {
            "plain": plain(vae, context, points, chunk, options, precision),
            "ours": cached(vae, context, points, chunk, options, precision),
        }
        times = interleaved(pair, rounds=5, seconds=1 if options.quick else 15, wait=wait_of(options.device))
        error = float((pair["plain"]().float() - pair["ours"]().float()).abs().max())
        rows.append(
            Row(
                f"{who}, {precision}, chunks of {chunk}",
                "s",
                spread(times["ours"]),
                "plain: keys and values projected anew for each chunk",
                spread(times["plain"]),
                ratio=ratios(times["plain"], times["ours"]),
                equality=Equality("logits: largest difference", error, CACHED),
                limit=f"{share:.0%} of the measured matrix rate, {rate[precision] / 1e9:.1f} GFLOP/s;"
                f" {flops / n / 1e3:.0f} kFLOP a query",
                targets=(Target("share of the matrix rate", 0.7, share),),
                tried=f"Share by chunk size: {sweep}. {TRIED}",
            )
        )
    rows.append(_bf16(who, vae, context, points, taken, chunks, options))
    return rows


def built(options: Options) -> tuple[PyramidVAE, Tensor]:
    """The VAE of the scale with random weights, and the context of one shape."""
    params = params_of("mar3d", options)
    vae = randomised(lambda: build_vae(params["vae"], params["latent"]), "vae", device=options.device).eval()
    vae.requires_grad_(False)
    shape = (1, params["latent"]["tokens"]["hr"], params["latent"]["channels"])
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    return vae, context_of(vae, latents.to(options.device))


@torch.no_grad()
def context_of(vae: PyramidVAE, latents: Tensor) -> Tensor:
    """What the queries attend to: `PyramidVAE.decode` without its last line, which projects keys and values."""
    x = vae.from_latent(latents)
    for block in vae.decoder:
        x = block(x)
    return x


@torch.no_grad()
def _chunks(vae: PyramidVAE, keys: Callable[[], Any], points: Tensor, chunk: int) -> Tensor:
    return torch.cat([vae.occupancy(keys(), part[None])[0] for part in points.split(chunk)])


def cached(
    vae: PyramidVAE, context: Tensor, points: Tensor, chunk: int, options: Options, precision: str
) -> Callable[[], Tensor]:
    """Keys and values once a shape, as the project does."""

    def call() -> Tensor:
        with torch.no_grad(), cast(options, precision):
            keys = vae.read.keys(context)
            return _chunks(vae, lambda: keys, points, chunk)

    return call


def plain(
    vae: PyramidVAE, context: Tensor, points: Tensor, chunk: int, options: Options, precision: str
) -> Callable[[], Tensor]:
    """The same, but keys and values are projected for every chunk; the decoder's own blocks still run once a shape."""

    def call() -> Tensor:
        with torch.no_grad(), cast(options, precision):
            return _chunks(vae, lambda: vae.read.keys(context), points, chunk)

    return call


def _bf16(who: str, vae, context, points, taken, chunks, options: Options) -> Row:
    best = {p: min((c for c in chunks), key=lambda c, p=p: spread(taken[p, c]).median) for p in PRECISIONS}
    slow, fast = (taken[p, best[p]] for p in PRECISIONS)
    logits = [cached(vae, context, points, best[p], options, p)().float() for p in PRECISIONS]
    scale = float(logits[0].abs().max().clamp(min=1.0))
    return Row(
        f"{who}, bf16 autocast, best chunk of each",
        "s",
        spread(fast),
        "plain: float32",
        spread(slow),
        ratio=ratios(slow, fast),
        equality=Equality(
            "logits over their largest magnitude", float((logits[0] - logits[1]).abs().max()) / scale, BF16
        ),
        tried="On a CPU without bf16 matrix units bf16 is emulated, and may be slower.",
    )


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds against the number of query points."""
    vae, context = built(options)
    sizes = (256, 512, 1024, 2048, 4096) if options.quick else (4096, 8192, 16384, 32768, 65536, 131072)
    generator = torch.Generator().manual_seed(4)
    clouds = {n: (torch.rand(n, 3, generator=generator) * 2 - 1).to(options.device) for n in sizes}
    calls = {n: cached(vae, context, points, 16384, options, "bf16") for n, points in clouds.items()}
    taken = interleaved(calls, rounds=5, seconds=15, wait=wait_of(options.device))
    costs = tuple(spread(taken[n]) for n in sizes)
    return (Curve("queries", "query points", "s", sizes, costs, 1.0, WHY),)
