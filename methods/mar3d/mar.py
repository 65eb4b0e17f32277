"""The masked autoregressive generator, for LR and HR tokens alike (MAR-3D section 3.2; Li et al. 2024).

An MAE encoder sees the condition tokens (the "buffer") and the known latent tokens; an MAE decoder fills the
masked places; a small per-token diffusion head turns each decoder output z into a continuous token. MAR-HR is
the same module with more tokens and, in the buffer, the noised LR tokens beside the image's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from methods.layers.attention import Block
from methods.layers.diffusion import Diffusion, StepDenoiser, time_features
from methods.layers.image_encoder import ImageConditioned
from methods.training.draws import WHOLE, Share

AHEAD = 2**24
"""Numbers, at most, that a head computes ahead of its steps: 64 MiB in float32."""


class HeadBlock(nn.Module):
    """Residual MLP modulated by the condition (AdaLN, zero-initialised gate)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x: (n, width). modulation: (n, 3 * width), what `self.modulation` makes of the condition."""
        shift, scale, gate = modulation.chunk(3, -1)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)


class DiffusionHead(nn.Module):
    """Per-token denoiser: (x_t, t, z) -> predicted noise or velocity, and raw variance (n, 2 * channels)."""

    def __init__(self, *, channels: int, condition: int, width: int, depth: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(256, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Linear(condition, width)
        self.input = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(HeadBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.output = nn.Linear(width, 2 * channels)
        for layer in [block.modulation[1] for block in self.blocks] + [self.modulation[1], self.output]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        return self._denoised(x, self._modulations(self.time(time_features(t)) + self.condition(z)))

    def at(self, times: Tensor, z: Tensor) -> StepDenoiser:
        """(x (n, c), step) -> what `forward` returns for x, times[step] and z (n, condition), with less work a step.

        What does not depend on x is computed ahead: the embeddings once, the modulations of many steps in one product,
        of as many as fit `AHEAD`. One step's products are small, and a loop over them is bound by the calls.
        """
        embedded, condition = self.time(time_features(times)), self.condition(z)
        widths = 3 * len(self.blocks) + 2
        together = max(1, AHEAD // (widths * condition.numel()))

        @functools.lru_cache(maxsize=1)
        def modulations(part: int) -> list[Tensor]:
            return self._modulations(embedded[part * together : (part + 1) * together, None] + condition)

        def denoise(x: Tensor, step: int) -> Tensor:
            part, within = divmod(step, together)
            return self._denoised(x, [values[within] for values in modulations(part)])

        return denoise

    def _modulations(self, condition: Tensor) -> list[Tensor]:
        """Of each block, and of the output, for conditions (..., width)."""
        return [block.modulation(condition) for block in self.blocks] + [self.modulation(condition)]

    def _denoised(self, x: Tensor, modulations: Sequence[Tensor]) -> Tensor:
        x = self.input(x)
        for block, modulation in zip(self.blocks, modulations[:-1], strict=True):
            x = block(x, modulation)
        shift, scale = modulations[-1].chunk(2, -1)
        return self.output(self.norm(x) * (1 + scale) + shift)


def mask_ratio(generator: torch.Generator, low: float, high: float, deviation: float = 0.25) -> float:
    """One draw from a normal of mean `high` and this deviation, truncated to [low, high] (2D MAR's choice)."""
    lowest = torch.special.ndtr(torch.tensor((low - high) / deviation, dtype=torch.float64))
    quantile = lowest + (0.5 - lowest) * torch.rand((), generator=generator, dtype=torch.float64)
    return min(high, max(low, high + deviation * float(torch.special.ndtri(quantile))))


class MaskedAutoregressive(ImageConditioned):
    """MAE encoder-decoder over condition and latent tokens, with a diffusion head.

    tokens, channels: of the latents it generates. low_tokens: how many LR tokens stand in the buffer (0 for
    MAR-LR). Latents in and out are standardised.
    """

    EDGES = ("image_encoder.embed.0", "embed_latent", "embed_low", "head.input", "head.output")
    """Input and output layers, which Muon leaves to AdamW."""

    def __init__(
        self,
        *,
        tokens: int,
        channels: int,
        low_tokens: int,
        width: int,
        encoder_depth: int,
        decoder_depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
        head_width: int,
        head_depth: int,
        noise_steps: int,
        prediction: str,
        image_encoder: Mapping[str, Any],
        image_size: int,
    ) -> None:
        super().__init__(image_encoder, image_size, width)
        self.tokens, self.channels, self.low_tokens = tokens, channels, low_tokens
        self.noise_steps, self.prediction = noise_steps, prediction
        buffer = self.image_encoder.tokens + low_tokens
        self.embed_low = nn.Linear(channels, width) if low_tokens else None
        self.embed_latent = nn.Linear(channels, width)
        self.position_encoder = nn.Parameter(torch.randn(1, buffer + tokens, width) * 0.02)
        self.norm_input = nn.LayerNorm(width)
        self.encoder = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(encoder_depth))
        self.norm_encoder = nn.LayerNorm(width)
        self.to_decoder = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position_decoder = nn.Parameter(torch.randn(1, buffer + tokens, width) * 0.02)
        self.decoder = nn.ModuleList(Block(width, heads, mlp_ratio, dropout) for _ in range(decoder_depth))
        self.norm_decoder = nn.LayerNorm(width)
        self.position_head = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.head = DiffusionHead(channels=channels, condition=width, width=head_width, depth=head_depth)

    def buffer(self, image_tokens: Tensor, low: Tensor | None) -> Tensor:
        """The condition tokens: the image's and, for HR, the noised LR tokens low (b, low_tokens, channels)."""
        if self.embed_low is None:
            return image_tokens
        return torch.cat([image_tokens, self.embed_low(low)], 1)

    def predict(self, buffer: Tensor, latents: Tensor, known: Tensor) -> Tensor:
        """Condition vectors z (b, tokens, width) for the head, at every latent place.

        buffer: (b, n, width). latents: (b, tokens, channels), read at known places only. known: (b, k) int64,
        places of known tokens; the same number k in each row.
        """
        b, n, width = buffer.shape
        rows = torch.arange(b, device=buffer.device)[:, None]
        visible = self.embed_latent(latents[rows, known]) + self.position_encoder[0, n + known]
        x = self.norm_input(torch.cat([buffer + self.position_encoder[:, :n], visible.to(buffer.dtype)], 1))
        for block in self.encoder:
            x = block(x)
        x = self.to_decoder(self.norm_encoder(x))
        places = self.mask_token.to(x.dtype).expand(b, self.tokens, width).clone()
        places[rows, known] = x[:, n:]
        x = torch.cat([x[:, :n], places], 1) + self.position_decoder
        for block in self.decoder:
            x = block(x)
        return self.norm_decoder(x[:, n:]) + self.position_head

    def loss(
        self,
        images: Tensor,
        latents: Tensor,
        low: Tensor | None,
        *,
        generator: torch.Generator,
        diffusion: Diffusion,
        drop: float,
        mask: Mapping[str, float],
        repeats: int,
        share: Share = WHOLE,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Diffusion loss averaged over the masked tokens, each repeated with independent t and noise.

        latents: (b, tokens, channels), detached; low: (b, low_tokens, channels) already noised, or None.
        """
        b, device = len(latents), latents.device
        masked = max(1, math.ceil(self.tokens * mask_ratio(generator, **mask)))
        order = share.uniform((b, self.tokens), generator, device).argsort(1)
        keep = share.uniform((b,), generator, device) >= drop
        z = self.predict(self.buffer(self.condition(images, keep), low), latents, order[:, masked:])
        rows = torch.arange(b, device=device)[:, None]
        # Only masked tokens enter the head; the others would be computed and thrown away.
        z = z[rows, order[:, :masked]].flatten(0, 1).repeat(repeats, 1)
        x0 = latents[rows, order[:, :masked]].flatten(0, 1).repeat(repeats, 1)
        each = (repeats, b, masked)
        t = share.integers(0, diffusion.steps, each, generator, device, dim=1).flatten()
        noise = share.normal((*each, self.channels), generator, device, dim=1).flatten(0, 2)
        value = diffusion.loss(lambda x, time: self.head(x, time, z), x0, t=t, noise=noise).mean()
        return value, {}


def build_mar(params: Mapping[str, Any], name: str, image_size: int) -> MaskedAutoregressive:
    """Build MAR-LR (`lr`), MAR-HR (`hr`), or a MAR of HR tokens without LR tokens (`hr_direct`).

    params: resolved, of `config.yaml`. image_size: pixels.
    """
    mar, tokens = params["mar"], params["latent"]["tokens"]
    names = ("width", "encoder_depth", "decoder_depth", "heads", "mlp_ratio", "dropout", "head_width", "head_depth")
    names += ("noise_steps", "prediction")
    return MaskedAutoregressive(
        tokens=tokens["lr" if name == "lr" else "hr"],
        channels=params["latent"]["channels"],
        low_tokens=tokens["lr"] if name == "hr" else 0,
        image_encoder=params["image_encoder"],
        image_size=image_size,
        **{n: mar[n] for n in names},
    )
