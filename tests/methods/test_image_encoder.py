"""The scratch image encoder: shapes, what a token sees, and sentences for sizes that cannot be."""

import pytest
import torch

from core.errors import UserError
from methods.layers.image_encoder import ScratchEncoder, build_image_encoder, convolutional_stem
from methods.layers.pixels import on_white


def test_transparent_pixels_are_white_and_opaque_ones_keep_their_colour() -> None:
    image = torch.zeros(1, 1, 2, 4, dtype=torch.uint8)
    image[0, 0, 1] = torch.tensor([255, 0, 0, 255])
    assert on_white(image)[0, :, 0].T.tolist() == [[1, 1, 1], [1, -1, -1]]


@pytest.mark.parametrize("patch", [2, 4, 16])
def test_one_token_a_patch(patch: int) -> None:
    encoder = ScratchEncoder(image_size=32, patch=patch, stem=8, width=24, depth=1, heads=2)
    assert encoder.tokens == (32 // patch) ** 2
    images = torch.randint(0, 256, (2, 32, 32, 4), dtype=torch.uint8)
    assert encoder(images).shape == (2, encoder.tokens, 24)


def test_a_pixel_reaches_the_token_of_its_own_patch() -> None:
    """Convolutions of stride 2 keep the grid's order: through averaging kernels, light moves its own patch most."""
    stem = torch.nn.Sequential(*(m for m in convolutional_stem(16, 8, 4) if not isinstance(m, torch.nn.GroupNorm)))
    with torch.no_grad():
        for name, parameter in stem.named_parameters():
            parameter.fill_(0.1 if name.endswith("weight") else 0.0)
    dark = torch.zeros(1, 3, 32, 32)
    for row, column in [(0, 0), (1, 2), (3, 3)]:
        lit = dark.clone()
        lit[..., 8 * row + 2 : 8 * row + 6, 8 * column + 2 : 8 * column + 6] = 1
        moved = (stem(lit) - stem(dark)).norm(dim=1)[0]
        assert moved.argmax() == 4 * row + column


@pytest.mark.parametrize("patch, message", [(12, "power of two"), (1, "power of two"), (64, "divide the image size")])
def test_a_patch_that_cannot_be_is_one_sentence(patch: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        sizes = {"patch": patch, "stem": 8, "width": 8, "depth": 1, "heads": 1}
        build_image_encoder({"name": "scratch", "scratch": sizes}, 32)
