"""The pyramid VAE (MAR-3D section 3.1, Eq. 2): surface points to latent tokens to an occupancy field.

Learnable queries S attend to the point cloud at several resolutions, one cross-attention a level, and the
results are summed. Two banks of queries, `lr` and `hr`, share every other weight, so that one VAE yields both
token counts. The queries must be learnable: a masked generator names its tokens by position, and slot i of a
point-query latent means something else in every shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.box import LONGEST_SIDE
from methods.layers.attention import Block, CrossBlock
from methods.layers.fourier import FourierFeatures

BANKS = ("lr", "hr")


def anchor_points(n: int) -> Tensor:
    """n well-spread points (n, 3) in [-0.95, 0.95]^3: Roberts' R3 sequence, a multiple of the plastic ratio."""
    ratio = 1.2207440846057596
    steps = torch.tensor([ratio**-1, ratio**-2, ratio**-3], dtype=torch.float64)
    return (((0.5 + torch.arange(1, n + 1)[:, None] * steps) % 1) * LONGEST_SIDE - LONGEST_SIDE / 2).float()


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian over latents; mean, log_variance: (b, tokens, channels) float32."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + sigma * noise, with noise ~ N(0, 1) of the same shape."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self) -> Tensor:
        """KL to N(0, 1), averaged over tokens, channels and batch (a scalar, in nats)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance).mean()


class PyramidVAE(nn.Module):
    """Encoder and occupancy decoder.

    levels: the fractions of the input points each cross-attention sees, as divisors: (1, 4, 16) is the
    pyramid, (1,) the single-level ablation with the same input points, (1, 1, 1) the control with the pyramid's
    parameters but one resolution. tokens: of each bank of queries, {"lr": …, "hr": …} or any other names.
    """

    EDGES = ("queries", "embed_points", "embed_queries", "to_posterior", "to_logit")
    """Input and output layers, which Muon leaves to AdamW."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        encoder_depth: int,
        decoder_depth: int,
        octaves: int,
        mlp_ratio: float,
        query_mlp_ratio: float,
        levels: Sequence[int],
        tokens: Mapping[str, int],
        channels: int,
        anchored: bool,
        anchor_gain: float,
        anchor_log_variance: float,
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.fourier = FourierFeatures(octaves)
        self.embed_points = nn.Linear(self.fourier.width + 3, width)
        banks = {bank: nn.Parameter(torch.randn(tokens[bank], width) * 0.02) for bank in tokens}
        self.queries = nn.ParameterDict(banks)
        self.cross = nn.ModuleList(CrossBlock(width, heads, mlp_ratio) for _ in self.levels)
        self.encoder = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(encoder_depth))
        self.norm_encoder = nn.LayerNorm(width)
        self.to_posterior = nn.Linear(width, 2 * channels)
        self.from_latent = nn.Linear(channels, width)
        self.decoder = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(decoder_depth))
        self.embed_queries = nn.Linear(self.fourier.width, width)
        self.read = CrossBlock(width, heads, query_mlp_ratio)
        self.norm_read = nn.LayerNorm(width)
        self.to_logit = nn.Linear(width, 1)
        if anchored:
            self._anchor(anchor_gain, anchor_log_variance)

    @torch.no_grad()
    def _anchor(self, gain: float, log_variance: float) -> None:
        """Start each query as the embedding of a place in the box, and each attention as a local one.

        From a normal start all queries read the same average of the cloud, and it takes thousands of steps
        until they part. Here query i starts at anchor i (a low-discrepancy sequence), and keys start equal to
        queries, so that attention falls off with distance from the first step. The function space is the same.
        """
        for parameter in self.queries.values():
            anchors = anchor_points(len(parameter))
            features = torch.cat([self.fourier(anchors), torch.zeros_like(anchors)], -1)
            parameter += self.embed_points(features)
        for block in self.cross:
            attention, width = block.attention, block.attention.query.weight.shape[0]
            attention.query.weight.mul_(gain)
            attention.key_value.weight[:width] = attention.query.weight
            attention.key_value.bias[:width] = attention.query.bias
        # Little noise at first: with unit variance the latents would carry nothing and the decoder learn nothing.
        self.to_posterior.bias.chunk(2)[1].fill_(log_variance)

    def encode(self, points: Tensor, normals: Tensor, bank: str) -> Posterior:
        """points, normals: (b, n, 3), in random order, so that a prefix is a random subset. bank: as in `tokens`."""
        features = self.embed_points(torch.cat([self.fourier(points), normals], -1))
        queries = self.queries[bank].expand(len(points), -1, -1)
        # Each block returns query + attention + MLP; only what it adds is summed, or the query would count
        # once a level.
        x = queries
        for divisor, block in zip(self.levels, self.cross, strict=True):
            level = features[:, : features.shape[1] // divisor]
            x = x + block(queries, block.keys(level)) - queries
        for block in self.encoder:
            x = block(x)
        mean, log_variance = self.to_posterior(self.norm_encoder(x)).float().chunk(2, -1)
        return Posterior(mean, log_variance.clamp(-30, 20))

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (b, tokens, channels) to the keys and values that `occupancy` reads; done once a shape."""
        x = self.from_latent(latents)
        for block in self.decoder:
            x = block(x)
        return self.read.keys(x)

    def occupancy(self, keys: tuple[Tensor, Tensor], points: Tensor) -> Tensor:
        """Logits (b, q) float32, positive inside, at points (b, q, 3). Queries do not see each other."""
        x = self.read(self.embed_queries(self.fourier(points)), keys)
        return self.to_logit(self.norm_read(x)).squeeze(-1).float()

    def loss(
        self,
        points: Tensor,
        normals: Tensor,
        queries: Tensor,
        labels: Tensor,
        *,
        bank: str,
        kl_weight: float,
        noise: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """BCE + kl_weight * KL, and the parts. queries: (b, q, 3); labels: (b, q); noise: as the latents."""
        posterior = self.encode(points, normals, bank)
        logits = self.occupancy(self.decode(posterior.sample(noise)), queries)
        bce, kl = F.binary_cross_entropy_with_logits(logits, labels), posterior.kl()
        return bce + kl_weight * kl, {"bce": bce.detach(), "kl": kl.detach()}


def build_vae(vae: Mapping[str, Any], latent: Mapping[str, Any]) -> PyramidVAE:
    """Build from the `vae` and `latent` sections of `config.yaml`."""
    names = ("width", "heads", "encoder_depth", "decoder_depth", "octaves", "mlp_ratio", "query_mlp_ratio", "levels")
    anchors = ("anchored", "anchor_gain", "anchor_log_variance")
    return PyramidVAE(**{n: vae[n] for n in names + anchors}, tokens=latent["tokens"], channels=latent["channels"])
