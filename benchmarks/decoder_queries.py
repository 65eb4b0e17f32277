"""Occupancy queries as the project makes them: their share of the machine's matrix rate, and the plain ways beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.growth import Curve
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import PRECISIONS, cast, params_of, randomised, square_product, wait_of
from benchmarks.options import Options
from benchmarks.result import Equality, Outcome, Row, Target
from methods.mar3d.decoding import field_of, points_at_once
from methods.mar3d.pyramid_vae import PyramidVAE, build_vae
from methods.training.flops import counted

SUMMARY = "queries of the occupancy decoder, one shape, HR tokens"
CHUNKS = (1024, 4096, 16384, 65536)
"""Beside the project's own rule."""
SHARE = 0.7
CACHED, BF16 = 1e-5, 0.02
ANEW, PLAIN = "plain: keys and values anew for each chunk", "plain: float32, keys and values anew, all points at once"
WORTH = 1.1
"""A gain below is not counted as one."""
TRIED = (
    "Compiled, the queries of width 128 are 1.06 times as fast in bf16 after 34 s: left off. Where the seconds go, and"
    " what a chunk should hold: docs/log.md, `decoder queries: compilation, and where their seconds go`, `chunks of"
    " decoder queries, compilation, batched Muon`."
)
WHY = "queries do not see each other"


def run(options: Options) -> Outcome:
    """All rows and curves of the path: of the scale's network, and of the paper's, whose products are larger."""
    rows = measured(options, 2048 if options.quick else 65536, (512, 1024) if options.quick else CHUNKS)
    if not options.quick and options.scale != "paper":
        rows += measured(replace(options, scale="paper"), 4096, CHUNKS[:2])
    return Outcome("decoder_queries", tuple(rows), growth(options), (
        "Ours is the field that an extraction asks, with the chunks that methods/mar3d/decoding.py chooses.",
        caching(rows),
        "FLOPs are those of matrix products and attention; elementwise work (GELU, softmax, norms, sines and cosines,"
        " in float32 under autocast) takes time and counts none.",
    ))  # fmt: skip


def caching(rows: Sequence[Row]) -> str:
    """What keys and values once a shape gain by themselves, at equal precision and chunks, in words."""
    gains = [(row.what.split(", chunks")[0], row.ratio.median) for row in rows if row.peer == ANEW]
    told = "; ".join(f"{what}: {gain:.2f}x{' (nothing)' if gain < WORTH else ''}" for what, gain in gains)
    return (
        f"Keys and values once a shape gain, at equal precision and chunks: {told}. What the float32 lines gain beyond"
        " that comes from bf16 and from chunks."
    )


@dataclass(frozen=True)
class Queries:
    """n query points for one shape of one network. context: what the keys and values are made of."""

    vae: PyramidVAE
    context: Tensor
    points: Tensor
    options: Options

    def keys(self, precision: str) -> tuple[Tensor, Tensor]:
        """As `PyramidVAE.decode` makes them, once a shape."""
        with torch.no_grad(), cast(self.options, precision):
            return self.vae.read.keys(self.context)

    def ours(self, precision: str) -> Callable[[], np.ndarray]:
        """The project's field, with its own chunks, on points that come from and go to NumPy."""
        field, points = field_of(self.vae, self.keys(precision), precision), self.points.cpu().numpy()
        return lambda: field(points)

    def chunked(self, precision: str, chunk: int, *, anew: bool) -> Callable[[], np.ndarray]:
        """The network in chunks of a size; anew: keys and values are projected for each of them."""
        once = self.keys(precision)

        def call() -> np.ndarray:
            with torch.no_grad(), cast(self.options, precision):
                parts = self.points.split(chunk)
                logits = [
                    self.vae.occupancy(self.vae.read.keys(self.context) if anew else once, p[None]) for p in parts
                ]
                return torch.cat(logits, 1)[0].cpu().numpy()

        return call


def built(options: Options, n: int) -> Queries:
    """The VAE of the scale with random weights, one shape, and n points."""
    params = params_of("mar3d", options)
    vae = randomised(lambda: build_vae(params["vae"], params["latent"]), "vae", device=options.device).eval()
    vae.requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, params["latent"]["tokens"]["hr"], params["latent"]["channels"], generator=generator)
    points = torch.rand(n, 3, generator=generator) * 2 - 1
    return Queries(vae, context_of(vae, latents.to(options.device)), points.to(options.device), options)


@torch.no_grad()
def context_of(vae: PyramidVAE, latents: Tensor) -> Tensor:
    """What the queries attend to: `PyramidVAE.decode` without its last line, which projects keys and values."""
    x = vae.from_latent(latents)
    for block in vae.decoder:
        x = block(x)
    return x


def measured(options: Options, n: int, chunks: tuple[int, ...]) -> list[Row]:
    """Rows of the network of the scale, all from the same interleaved rounds."""
    queries = built(options, n)
    own = points_at_once(queries.vae, queries.keys("fp32"))
    products = {p: square_product(p, options.device, quick=options.quick) for p in PRECISIONS}
    calls: dict[Any, Callable[[], Any]] = {"plain": queries.chunked("fp32", n, anew=True)}
    for p in PRECISIONS:
        calls |= {(p, "ours"): queries.ours(p), (p, "product"): products[p].call}
        calls |= {(p, "anew"): queries.chunked(p, own, anew=True)}
        calls |= {(p, chunk): queries.chunked(p, chunk, anew=False) for chunk in chunks}
    logits = {name: call() for name, call in calls.items() if name == "plain" or name[1] in ("ours", "anew")}
    flops = counted(calls["fp32", "ours"])[1]
    taken = interleaved(calls, rounds=5, seconds=1 if options.quick else 30, warm_up=0, wait=wait_of(options.device))

    def share(p: str, name: Any) -> Any:
        return products[p].shares(flops, taken[p, name], taken[p, "product"])

    who = f"width {queries.vae.from_latent.out_features}, {n} queries"
    rows = []
    for p in PRECISIONS:
        sweep = ", ".join(f"{chunk}: {share(p, chunk).median:.0%}" for chunk in chunks)
        error = float(np.abs(logits[p, "anew"] - logits[p, "ours"]).max())
        rows.append(
            Row(
                f"{who}, {p}, chunks of {own}", "s", spread(taken[p, "ours"]), ANEW, spread(taken[p, "anew"]),
                ratio=ratios(taken[p, "anew"], taken[p, "ours"]),
                equality=Equality("logits: largest difference", error, CACHED),
                limit=f"{products[p].told(flops, taken[p, 'ours'], taken[p, 'product'])};"
                f" {flops / n / 1e3:.0f} kFLOP a query",
                targets=(Target("share of the matrix rate", SHARE, share(p, "ours").median),),
                tried=f"Other chunks, share of the rate: {sweep}. {TRIED}",
            )
        )  # fmt: skip
    largest = max(1.0, float(np.abs(logits["plain"]).max()))
    error = float(np.abs(logits["plain"] - logits["bf16", "ours"]).max()) / largest
    rows.append(
        Row(
            f"{who}, bf16, chunks of {own}", "s", spread(taken["bf16", "ours"]), PLAIN, spread(taken["plain"]),
            ratio=ratios(taken["plain"], taken["bf16", "ours"]),
            equality=Equality("logits over their largest magnitude", error, BF16),
        )
    )  # fmt: skip
    return rows


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds against the number of query points."""
    sizes = (256, 512, 1024, 2048, 4096) if options.quick else (4096, 8192, 16384, 32768, 65536, 131072)
    calls = {n: built(options, n).ours("bf16") for n in sizes}
    taken = interleaved(calls, rounds=5, seconds=15, wait=wait_of(options.device))
    costs = tuple(spread(taken[n]) for n in sizes)
    return (Curve("queries", "query points", "s", sizes, costs, 1.0, WHY),)
