"""From condition images to what a network reads."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def on_white(images: Tensor) -> Tensor:
    """Composite RGBA images (b, h, w, 4) uint8 on white: (b, 3, h, w) float32 in [-1, 1]."""
    rgba = images.float() / 255
    rgb = rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:])
    return rgb.permute(0, 3, 1, 2) * 2 - 1


def resized(pixels: Tensor, size: int) -> Tensor:
    """Bicubic resize with antialiasing of (b, 3, h, w) in [-1, 1] to (b, 3, size, size), kept in [-1, 1]."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    scaled = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(-1, 1)
