"""Image encoders behind one small interface.

An encoder is a module with `tokens` (how many it returns), `width` (of each) and
`forward(images (b, h, w, 4) uint8) -> (b, tokens, width)`.
`scratch` is a small ViT trained with the generator and needs no weights. Frozen pretrained encoders
(CLIP, DINOv2) register under their own name in `ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UserError
from methods.layers.attention import Block


def on_white(images: Tensor) -> Tensor:
    """Composite RGBA images (b, h, w, 4) uint8 on white: (b, 3, h, w) float32 in [-1, 1]."""
    rgba = images.float() / 255
    rgb = rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:])
    return rgb.permute(0, 3, 1, 2) * 2 - 1


class ScratchEncoder(nn.Module):
    """A small ViT with learned positions, trained from scratch with the generator."""

    def __init__(self, *, image_size: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if image_size % patch:
            raise UserError(f"image_encoder.scratch.patch is {patch}; it must divide the image size, {image_size}.")
        self.image_size, self.tokens, self.width = image_size, (image_size // patch) ** 2, width
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.position = nn.Parameter(torch.randn(1, self.tokens, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] != self.image_size:
            built, given = self.image_size, images.shape[1]
            raise UserError(
                f"the encoder was built for {built} px images and got {given} px; prepare the data at {built}."
            )
        x = self.embed(on_white(images)).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


ENCODERS: dict[str, type[nn.Module]] = {"scratch": ScratchEncoder}


def build_image_encoder(params: Mapping[str, Any], image_size: int) -> nn.Module:
    """Build the encoder that `params["name"]` names, for `image_size` pixels, from the parameters of its name.

    `{"name": "scratch", "scratch": {"patch": 8, …}}`.
    """
    name = params["name"]
    if name not in ENCODERS:
        raise UserError(f"image_encoder.name is {name!r}; this build knows: {', '.join(sorted(ENCODERS))}.")
    return ENCODERS[name](image_size=image_size, **params[name])
