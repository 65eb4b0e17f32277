"""FLOPs of the networks by formula, from tokens, widths and steps: what growth is held against.

Counted from the code they would follow every mistake in it: a loop that does twice the work would be allowed to. Matrix
products and attention count, as in `methods.training.flops`; a multiplication and an addition are two.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from methods.mar3d.sampling import masked_after

Params = Mapping[str, Any]
FORWARD_AND_BACKWARD = 3
"""The backward pass is two products for each of the forward pass: of the weights, and of the input."""


def block(n: int, width: int, ratio: float) -> float:
    """A transformer block of n tokens: queries, keys, values, output, MLP, and attention among all of them."""
    return 2 * n * width**2 * (4 + 2 * ratio) + 4 * n**2 * width


def image_tokens(params: Params, size: int) -> int:
    """Of an image of this many pixels a side; an encoder with a size of its own resizes it."""
    encoder = params["image_encoder"][params["image_encoder"]["name"]]
    return (encoder.get("size", size) // encoder["patch"]) ** 2


def image_encoder(params: Params, size: int, width: int) -> float:
    """An image: convolutions of 3 x 3 and stride 2, blocks, and the map to the network's width.

    0 for an encoder that is not trained: its work is the same at all sizes, and often not done in a step.
    """
    if params["image_encoder"]["name"] != "scratch":
        return 0.0
    scratch, n = params["image_encoder"]["scratch"], image_tokens(params, size)
    halvings = scratch["patch"].bit_length() - 1
    channels = [3, *(min(scratch["width"], scratch["stem"] << i) for i in range(halvings - 1)), scratch["width"]]
    stem = sum(
        2 * (size >> level) ** 2 * 9 * narrow * wide
        for level, (narrow, wide) in enumerate(itertools.pairwise(channels), 1)
    )
    return stem + scratch["depth"] * block(n, scratch["width"], 4.0) + 2 * n * scratch["width"] * width


def predict(params: Params, buffer: int, tokens: int, known: int) -> float:
    """MAR's transformer: an encoder over the buffer and the known tokens, a decoder over all."""
    mar, seen = params["mar"], buffer + known
    width, ratio = mar["width"], mar["mlp_ratio"]
    edges = 2 * known * params["latent"]["channels"] * width + 2 * seen * width**2
    encoder, decoder = (mar[f"{part}_depth"] for part in ("encoder", "decoder"))
    return edges + encoder * block(seen, width, ratio) + decoder * block(buffer + tokens, width, ratio)


def head(params: Params, rows: int, times: int, conditions: int) -> float:
    """The diffusion head for so many rows, embeddings of time and of conditions."""
    mar, channels = params["mar"], params["latent"]["channels"]
    width, depth = mar["head_width"], mar["head_depth"]
    row = channels * width + depth * 5 * width**2 + 2 * width**2 + 2 * width * channels
    return 2 * (rows * row + times * (256 * width + width**2) + conditions * mar["width"] * width)


def sampling(params: Params, settings: Params, tokens: int, size: int) -> float:
    """MAR-LR's samples of one image, under guidance: both branches in every step, new tokens alone in the head."""
    buffer, steps, current = image_tokens(params, size), settings["diffusion_steps"], tokens
    total = image_encoder(params, size, params["mar"]["width"])
    for left in masked_after(tokens, settings["steps"], settings["schedule"]):
        new = 2 * (current - left)
        total += 2 * predict(params, buffer, tokens, tokens - current) + head(params, steps * new, steps, new)
        current = left
    return total


def mar_training(params: Params, tokens: int, masked: int, size: int) -> float:
    """Forward and backward pass of MAR-LR's loss for one sample."""
    buffer, rows = image_tokens(params, size), masked * params["mar"]["diffusion_repeats"]
    forward = image_encoder(params, size, params["mar"]["width"])
    forward += predict(params, buffer, tokens, tokens - masked) + head(params, rows, rows, rows)
    return FORWARD_AND_BACKWARD * forward


def dit_training(params: Params, tokens: int, size: int) -> float:
    """Forward and backward pass of DiT-LR's loss for one sample, which attends to itself and to the image."""
    dit, context = params["dit"], image_tokens(params, size)
    width, channels = dit["width"], params["latent"]["channels"]
    cross = 4 * (tokens + context) * width**2 + 4 * tokens * context * width
    forward = image_encoder(params, size, width) + 2 * tokens * 3 * channels * width + 2 * width * (256 + 7 * width)
    return FORWARD_AND_BACKWARD * (forward + dit["depth"] * (block(tokens, width, params["mar"]["mlp_ratio"]) + cross))
