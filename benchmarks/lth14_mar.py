"""LTH14/mar, the code that MAR-3D builds on, beside ours: a sampling loop, and a training step.

Equal widths, depths, tokens, steps, batch, dtype and optimiser, random weights. Its condition is a class, given as many
buffer tokens as an image has. Ours is an image: for sampling we encode it, once; in training its tokens are given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import cast, square_product, wait_of
from benchmarks.options import Options
from benchmarks.peers import cloned
from benchmarks.result import Row, Target
from methods.training.flops import counted

PEER = "LTH14/mar"
EDGES = ("class_emb", "z_proj", "diffloss.net.input_proj", "diffloss.net.final_layer")
"""Its input and output layers, which Muon leaves to AdamW as it does ours."""
NOT_COMPARED = "another condition and other weights"


@dataclass(frozen=True)
class Ours:
    """Our side of a row. call: what is timed. wanted: times as fast as the peer. tried: as in a row."""

    what: str
    model: nn.Module
    precision: str
    call: Callable[[], Any]
    wanted: float
    tried: str


def sampling_row(
    model: nn.Module, params: Mapping[str, Any], settings: Mapping[str, Any], ours: Callable[[], Tensor], wanted: float,
    options: Options,
) -> Row:  # fmt: skip
    """Its whole sampling loop for one object beside `ours`, a call that samples once from `model` with `settings`."""
    steps = min(settings["steps"], model.tokens)
    what = f"MAR-LR, {model.tokens} tokens, {steps} x {settings['diffusion_steps']} steps"
    precision = params["sampling"]["precision"]

    def prepare(theirs: nn.Module) -> Callable[[], Any]:
        theirs.eval()
        labels = torch.zeros(1, dtype=torch.int64, device=options.device)

        def loop() -> Any:
            with torch.no_grad(), cast(options, precision):
                return theirs.sample_tokens(
                    1, num_iter=steps, cfg=settings["guidance"], cfg_schedule="linear", labels=labels
                )

        return loop

    tried = "Few tokens leave both loops to their small calls: docs/log.md, `benchmarks, after the diffusion head`."
    mar = {**params["mar"], "diffusion_steps": settings["diffusion_steps"]}
    return _row(Ours(what, model, precision, ours, wanted, tried), mar, prepare, options)


def training_row(
    model: nn.Module, params: Mapping[str, Any], batch: int, taken: Callable[[nn.Module, Any, tuple[str, ...]], Any],
    ours: Callable[[], None], tried: str, options: Options,
) -> Row:  # fmt: skip
    """Its whole training step beside `ours`, both with the condition's tokens at hand.

    taken: makes a step of a module, its loss and the names of its edges.
    """
    precision = params["mar_lr"]["training"]["precision"]
    what = f"MAR-LR, condition's tokens given, batch {batch}, {precision}"

    def prepare(theirs: nn.Module) -> Callable[[], None]:
        side = math.isqrt(model.tokens)
        latents = torch.randn(batch, model.channels, side, side, device=options.device)
        labels = torch.zeros(batch, dtype=torch.int64, device=options.device)
        return taken(theirs.train(), lambda _: theirs(latents, labels), EDGES)

    mar = {**params["mar"], "diffusion_steps": 100}
    return _row(Ours(what, model, precision, ours, 1.5, tried), mar, prepare, options)


def _row(
    ours: Ours, mar: Mapping[str, Any], prepare: Callable[[nn.Module], Callable[[], Any]], options: Options
) -> Row:  # fmt: skip
    side = math.isqrt(ours.model.tokens)
    if side**2 != ours.model.tokens:
        status = f"takes square numbers of tokens only, not {ours.model.tokens}"
        return Row(ours.what, "s", None, PEER, peer_status=status)
    with cloned(options.peers, "mar", "models.mar") as module, _in_place(options):
        if isinstance(module, str):
            return Row(ours.what, "s", None, PEER, peer_status=module)
        theirs = _network(module, ours.model, mar, side).to(options.device)
        product = square_product(ours.precision, options.device, quick=options.quick)
        calls = {"theirs": prepare(theirs), "ours": ours.call, "product": product.call}
        taken = interleaved(calls, rounds=7, seconds=1 if options.quick else 20, wait=wait_of(options.device))
    gain = ratios(taken["theirs"], taken["ours"])
    size, own = (sum(p.numel() for p in m.parameters()) / 1e6 for m in (theirs, ours.model))
    return Row(
        ours.what, "s", spread(taken["ours"]), PEER, spread(taken["theirs"]), ratio=gain,
        limit=product.told(counted(ours.call)[1], taken["ours"], taken["product"]),
        not_compared=f"{NOT_COMPARED}, {own:.2f} M parameters beside its {size:.2f} M",
        targets=(Target("ratio", ours.wanted, gain.median),), tried=ours.tried,
    )  # fmt: skip


def _network(module: Any, model: nn.Module, mar: Mapping[str, Any], side: int) -> nn.Module:
    return module.MAR(
        img_size=side, vae_stride=1, patch_size=1, vae_embed_dim=model.channels, class_num=10,
        encoder_embed_dim=mar["width"], encoder_depth=mar["encoder_depth"], encoder_num_heads=mar["heads"],
        decoder_embed_dim=mar["width"], decoder_depth=mar["decoder_depth"], decoder_num_heads=mar["heads"],
        mlp_ratio=mar["mlp_ratio"], attn_dropout=mar["dropout"], proj_dropout=mar["dropout"],
        buffer_size=model.image_encoder.tokens, diffloss_d=mar["head_depth"], diffloss_w=mar["head_width"],
        num_sampling_steps=str(mar["diffusion_steps"]), diffusion_batch_mul=mar["diffusion_repeats"],
    )  # fmt: skip


def _in_place(options: Options) -> AbstractContextManager:
    """Its code moves tensors with `.cuda()`: without a GPU they stay where they are."""
    return nullcontext() if options.device == "cuda" else patch.object(torch.Tensor, "cuda", lambda tensor: tensor)
