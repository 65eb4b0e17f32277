"""Pre-norm transformer blocks, and attention that picks its path by device.

On a CPU with bf16 matrix units, attention written as two plain matrix products trains faster than the fused
kernel, whose backward pass dominates the step; on a GPU the fused kernel wins. `attend` therefore uses plain
products on the CPU and `scaled_dot_product_attention` elsewhere.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention. q: (b, h, n, c); k, v: (b, h, m, c). Returns (b, h, n, c)."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(-1).to(v.dtype) @ v


def _heads(x: Tensor, heads: int) -> Tensor:
    b, n, c = x.shape
    return x.view(b, n, heads, c // heads).transpose(1, 2)


def _merge(x: Tensor) -> Tensor:
    b, h, n, c = x.shape
    return x.transpose(1, 2).reshape(b, n, h * c)


class SelfAttention(nn.Module):
    """Multi-head self-attention with biased qkv and output projections."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return self.dropout(self.out(_merge(attend(q, k, v))))


class CrossAttention(nn.Module):
    """Multi-head cross-attention; keys and values may be computed once and used for many queries."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def keys(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (b, h, m, c), of a context (b, m, width)."""
        k, v = self.key_value(context).chunk(2, -1)
        return _heads(k, self.heads), _heads(v, self.heads)

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
        q = _heads(self.query(x), self.heads)
        return self.out(_merge(attend(q, *keys)))


class MLP(nn.Sequential):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, ratio: float, dropout: float = 0.0) -> None:
        hidden = int(width * ratio)
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout))


class Block(nn.Module):
    """Pre-norm self-attention block: x + attention(LN x), then x + MLP(LN x)."""

    def __init__(self, width: int, heads: int, ratio: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.mlp = MLP(width, ratio, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """Pre-norm cross-attention block with norms on queries and context, followed by an MLP."""

    def __init__(self, width: int, heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        self.norm_query, self.norm_context, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.attention = CrossAttention(width, heads)
        self.mlp = MLP(width, ratio)

    def keys(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a context (b, m, width), to be passed to `forward`."""
        return self.attention.keys(self.norm_context(context))

    def forward(self, x: Tensor, keys: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attention(self.norm_query(x), keys)
        return x + self.mlp(self.norm_mlp(x))
