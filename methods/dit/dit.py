"""A diffusion transformer over latent tokens: the denoiser that all variants of `dit` share.

Blocks of self-attention, cross-attention to the condition, and an MLP, modulated by the time alone through one
shared network (adaLN-single; Chen et al., PixArt-alpha, ICLR 2024, section 2.3). The condition is what MAR's buffer
is: image tokens and, for HR in the cascade, the noised LR tokens. At the start every block is the identity in its
self-attention, cross-attention and MLP, and the network returns zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from methods.layers.attention import MLP, CrossAttention, SelfAttention
from methods.layers.diffusion import time_features
from methods.layers.image_encoder import ImageConditioned

Keys = list[tuple[Tensor, Tensor]]
"""Keys and values of the condition in every block."""

TIMES = 1000
"""Times run from 0 to this, as the steps of the diffusion do."""


class DiTBlock(nn.Module):
    """Modulated self-attention, cross-attention, modulated MLP; each adds to its input, at first nothing."""

    def __init__(self, width: int, heads: int, ratio: float, dropout: float) -> None:
        super().__init__()
        self.norm_self, self.norm_mlp = (nn.LayerNorm(width, eps=1e-6, elementwise_affine=False) for _ in range(2))
        self.norm_cross = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = SelfAttention(width, heads, dropout)
        self.cross_attention = CrossAttention(width, heads)
        self.mlp = MLP(width, ratio, dropout)
        self.modulation = nn.Parameter(torch.zeros(6, width))  # what this block adds to the shared modulation
        nn.init.zeros_(self.cross_attention.out.weight)
        nn.init.zeros_(self.cross_attention.out.bias)

    def forward(self, x: Tensor, shared: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
        """x: (b, n, width). shared: (b, 6, width), from the time. keys: of the condition."""
        parts = (shared + self.modulation)[:, :, None].unbind(1)
        shift_self, scale_self, gate_self, shift_mlp, scale_mlp, gate_mlp = parts
        x = x + gate_self * self.self_attention(self.norm_self(x) * (1 + scale_self) + shift_self)
        x = x + self.cross_attention(self.norm_cross(x), keys)
        return x + gate_mlp * self.mlp(self.norm_mlp(x) * (1 + scale_mlp) + shift_mlp)


class DiT(ImageConditioned):
    """The denoiser of `tokens` standardised latents, conditioned on an image and `low_tokens` LR tokens (or 0).

    outputs: for each channel; 2 for a prediction and raw variance, 1 for the velocity of a flow. prediction: what the
    first of two outputs is, see `Diffusion`. slot_positions: whether each latent place has a learned vector, without
    which the network cannot tell the places apart.
    """

    EDGES = ("image_encoder.embed.0", "embed_latent", "embed_low", "time.0", "output")
    """Input and output layers, which Muon leaves to AdamW."""

    def __init__(
        self,
        *,
        tokens: int,
        channels: int,
        low_tokens: int,
        outputs: int,
        prediction: str,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        slot_positions: bool,
        image_encoder: Mapping[str, Any],
        image_size: int,
    ) -> None:
        super().__init__(image_encoder, image_size, width)
        self.tokens, self.channels, self.low_tokens = tokens, channels, low_tokens
        self.prediction = prediction
        if low_tokens:
            self.embed_low = nn.Linear(channels, width)
            self.position_low = nn.Parameter(torch.randn(1, low_tokens, width) * 0.02)
        self.norm_condition = nn.LayerNorm(width)
        self.embed_latent = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.randn(1, tokens, width) * 0.02) if slot_positions else None
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads, mlp_ratio, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation_output = nn.Parameter(torch.zeros(2, width))
        self.output = nn.Linear(width, outputs * channels)
        for layer in (self.modulation[1], self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def keys(self, image_tokens: Tensor, low: Tensor | None) -> Keys:
        """Keys and values of the condition, the same at every time: image tokens, noised LR tokens or None."""
        context = image_tokens
        if self.low_tokens:
            embedded = self.embed_low(low) + self.position_low
            context = torch.cat([image_tokens, embedded.to(image_tokens.dtype)], 1)
        context = self.norm_condition(context)
        return [block.cross_attention.keys(context) for block in self.blocks]

    def forward(self, x: Tensor, t: Tensor, keys: Keys) -> Tensor:
        """Output (b, tokens, outputs * channels) for noisy latents x (b, tokens, channels) at times t (b,)."""
        time = self.time(time_features(t))
        shared = self.modulation(time).unflatten(-1, (6, -1))
        x = self.embed_latent(x)
        if self.position is not None:
            x = x + self.position
        for block, pair in zip(self.blocks, keys, strict=True):
            x = block(x, shared, pair)
        shift, scale = (time[:, None] + self.modulation_output)[:, :, None].unbind(1)
        return self.output(self.norm(x) * (1 + scale) + shift)


def build_dit(params: Mapping[str, Any], name: str, image_size: int) -> DiT:
    """Build the network of a stage: `dit_lr`, `dit_hr`, `dit_hr_direct` or `flow`; image_size in pixels."""
    dit, mar, tokens = params["dit"], params["mar"], params["latent"]["tokens"]
    return DiT(
        tokens=tokens["hr" if name.startswith("dit_hr") else "lr"],
        channels=params["latent"]["channels"],
        low_tokens=tokens["lr"] if name == "dit_hr" else 0,
        outputs=1 if name == "flow" else 2,
        prediction=mar["prediction"],
        width=dit["width"],
        depth=dit["depth"],
        heads=dit["heads"],
        mlp_ratio=mar["mlp_ratio"],
        dropout=mar["dropout"],
        slot_positions=dit["slot_positions"],
        image_encoder=params["image_encoder"],
        image_size=image_size,
    )
