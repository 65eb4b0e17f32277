"""Image encoders behind one small interface.

An encoder is a module with `tokens` (how many it returns), `width` (of each) and
`forward(images (b, h, w, 4) uint8) -> (b, tokens, width)`.
`scratch` is a small ViT trained with the generator and needs no weights. `clip_dinov2` is frozen but for norms and
projections; it has `features(images)` as well, everything before those, which `forward` takes in the place of images.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UserError
from methods.layers.attention import Block
from methods.layers.clip_dinov2 import ClipDinov2
from methods.layers.convolution import MatrixConv2d
from methods.layers.pixels import on_white


def convolutional_stem(width: int, patch: int, narrowest: int) -> nn.Sequential:
    """Convolutions of stride 2, one token of `width` channels a patch: (b, 3, h, w) -> (b, width, h/patch, w/patch).

    `narrowest` channels after the first, twice as many after each further one, `width` at most and at the end. In place
    of one linear map of raw pixels, since a ViT that is trained for a few thousand steps learns far faster behind it
    (Xiao et al., Early Convolutions Help Transformers See Better, 2021; docs/log.md has the measurement).
    """
    halvings = patch.bit_length() - 1
    channels = [3] + [min(width, narrowest << i) for i in range(halvings - 1)] + [width]
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(channels):
        layers += [MatrixConv2d(narrow, wide, 3, stride=2), nn.GroupNorm(1, wide), nn.GELU()]
    return nn.Sequential(*layers[:-2])


class ScratchEncoder(nn.Module):
    """A small ViT with a convolutional stem and learned positions, trained from scratch with the generator."""

    def __init__(self, *, image_size: int, patch: int, stem: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if patch < 2 or patch & (patch - 1):
            raise UserError(f"image_encoder.scratch.patch is {patch}; it must be a power of two, 2 or more.")
        if image_size % patch:
            raise UserError(f"image_encoder.scratch.patch is {patch}; it must divide the image size, {image_size}.")
        self.image_size, self.tokens, self.width = image_size, (image_size // patch) ** 2, width
        self.embed = convolutional_stem(width, patch, stem)
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


ENCODERS: dict[str, type[nn.Module]] = {"scratch": ScratchEncoder, "clip_dinov2": ClipDinov2}


def made_up_networks(encoder: nn.Module, device: torch.device) -> tuple[nn.Module, ...]:
    """The networks on a device that run before an encoder and are not part of it, since they are never trained.

    From now on of random weights: what a step takes does not depend on them, so that none need be there.
    """
    if not isinstance(encoder, ClipDinov2):
        return ()
    encoder.made_up = True
    return tuple(encoder.frozen(kind, device).model for kind in encoder.shapes)


def build_image_encoder(params: Mapping[str, Any], image_size: int) -> nn.Module:
    """Build the encoder that `params["name"]` names, for `image_size` pixels, from the parameters of its name.

    `{"name": "scratch", "scratch": {"patch": 8, …}}`.
    """
    name = params["name"]
    if name not in ENCODERS:
        raise UserError(f"image_encoder.name is {name!r}; this build knows: {', '.join(sorted(ENCODERS))}.")
    return ENCODERS[name](image_size=image_size, **params[name])


class ImageConditioned(nn.Module):
    """A network that sees an image as tokens of its own width, or learned null tokens where the image is dropped.

    The base of MAR and DiT. image_encoder: the section of params of this name. image_size: pixels.
    """

    def __init__(self, image_encoder: Mapping[str, Any], image_size: int, width: int) -> None:
        super().__init__()
        self.image_encoder = build_image_encoder(image_encoder, image_size)
        self.embed_image = nn.Linear(self.image_encoder.width, width)
        self.null_image = nn.Parameter(torch.randn(1, self.image_encoder.tokens, width) * 0.02)

    def condition(self, images: Tensor, keep: Tensor) -> Tensor:
        """Image tokens (b, n, width) of images (b, h, w, 4) uint8; where `keep` (b,) is false, the null tokens."""
        x = self.embed_image(self.image_encoder(images))
        return torch.where(keep[:, None, None], x, self.null_image.to(x.dtype))

    def null_condition(self, b: int) -> Tensor:
        """The null tokens (b, n, width) that stand for a dropped image."""
        return self.null_image.expand(b, -1, -1)
