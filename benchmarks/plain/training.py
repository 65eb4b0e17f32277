"""Training steps written plainly: every token in MAR's diffusion head, fused attention, torch's own optimisers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from methods.layers import attention
from methods.layers.diffusion import Diffusion
from methods.mar3d.mar import MaskedAutoregressive, mask_ratio
from methods.training import optimiser


@contextmanager
def fused_attention() -> Iterator[None]:
    """Within the block all attention is `scaled_dot_product_attention`, on a CPU too."""
    with patch.object(attention, "attend", F.scaled_dot_product_attention):
        yield


@contextmanager
def written_out_attention() -> Iterator[None]:
    """Within the block all attention is two matrix products and a softmax, on a GPU too."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1).to(v.dtype) @ v

    with patch.object(attention, "attend", attend):
        yield


def torchs_optimisers(
    module: nn.Module, params: Mapping[str, Any], lr: float, edges: Iterable[str] = ()
) -> list[Optimizer]:
    """As `build_optimisers`, but torch's Muon, one matrix after another, and AdamW as it comes, not fused."""
    with patch.object(optimiser, "BatchedMuon", Muon):
        built = optimiser.build_optimisers(module, params, lr, edges)
    for each in built:
        if isinstance(each, AdamW):
            for group in each.param_groups:
                group["fused"] = None
    return built


def all_tokens_loss(
    model: MaskedAutoregressive,
    images: Tensor,
    latents: Tensor,
    low: Tensor | None,
    *,
    generator: torch.Generator,
    diffusion: Diffusion,
    drop: float,
    mask: Mapping[str, float],
    repeats: int,
) -> Tensor:
    """`MaskedAutoregressive.loss` with every token in the head, and the unmasked ones' losses multiplied by zero.

    That is how the diffusion loss of masked autoregressive models is usually written. The draws are those of the
    model's own loss in the same order (places that are not masked get none and stay at 0), so the values agree.
    """
    b, tokens, channels, device = len(latents), model.tokens, model.channels, latents.device
    masked = max(1, math.ceil(tokens * mask_ratio(generator, **mask)))
    order = torch.rand((b, tokens), generator=generator).to(device).argsort(1)
    keep = torch.rand((b,), generator=generator).to(device) >= drop
    z = model.predict(model.buffer(model.condition(images, keep), low), latents, order[:, masked:])
    rows, chosen = torch.arange(b, device=device)[:, None], order[:, :masked]
    t = torch.zeros((repeats, b, tokens), dtype=torch.int64, device=device)
    t[:, rows, chosen] = torch.randint(0, diffusion.steps, (repeats, b, masked), generator=generator).to(device)
    noise = torch.zeros((repeats, b, tokens, channels), device=device)
    noise[:, rows, chosen] = torch.randn((repeats, b, masked, channels), generator=generator).to(device)
    weights = torch.zeros((b, tokens), device=device)
    weights[rows, chosen] = 1.0
    z, x0 = z.flatten(0, 1).repeat(repeats, 1), latents.flatten(0, 1).repeat(repeats, 1)
    each = diffusion.loss(lambda x, time: model.head(x, time, z), x0, t=t.flatten(), noise=noise.flatten(0, 2))
    weights = weights.flatten().repeat(repeats)
    return (each * weights).sum() / weights.sum()
