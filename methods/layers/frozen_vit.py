"""Frozen pretrained vision transformers: CLIP's (Radford et al. 2021) and DINOv2's (Oquab et al. 2023).

Images are composed on white, resized to the model's size and normalised on the device. A model has its own mean and
standard deviation. The whole image is resized, never cropped: an object fills 90 % of a condition image, and the
resize to 256 with a crop to 224 that DINOv2's files ask for would cut it. Every token is kept, the class token first.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UserError
from methods.layers.pixels import on_white, resized
from methods.layers.pretrained import weights_hash
from methods.training.weights import lowered

MEAN = {"clip": (0.48145466, 0.4578275, 0.40821073), "dino": (0.485, 0.456, 0.406)}
"""Of the RGB values in [0, 1] of what each was trained on: OpenAI's pictures, ImageNet."""
STD = {"clip": (0.26862954, 0.26130258, 0.27577711), "dino": (0.229, 0.224, 0.225)}


@dataclass(frozen=True)
class Shape:
    """What the config says of a model, so that its output's shape and FLOPs are known without its files."""

    kind: str  # clip or dino
    width: int
    depth: int
    heads: int
    patch: int
    size: int  # pixels a side of the images that it reads

    @property
    def tokens(self) -> int:
        """The class token and one a patch."""
        return (self.size // self.patch) ** 2 + 1


def normalised(images: Tensor, kind: str, size: int) -> Tensor:
    """What a model of this kind reads, (b, 3, size, size) float32, of images (b, h, w, 4) uint8."""
    mean, std = _statistics(kind, images.device)
    return ((resized(on_white(images), size) + 1) / 2 - mean) / std


@functools.cache  # made anew, each would be a copy that the device waits for
def _statistics(kind: str, device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN[kind], STD[kind]))
    return mean, std


class FrozenViT:
    """A model that is never trained. Not an `nn.Module`, so that whoever holds it neither trains nor stores it."""

    def __init__(self, shape: Shape, model: nn.Module, device: torch.device, precision: str) -> None:
        self.shape, self.device, self.precision = shape, device, precision
        model = model.to(device).eval().requires_grad_(False)
        self.model = model if device.type == "meta" else lowered(model, precision)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """All tokens (b, tokens, width) float16 of images (b, h, w, 4) uint8; CLIP's before its last norm."""
        pixels = normalised(images, self.shape.kind, self.shape.size)
        with autocast(images.device, self.precision):
            return self.model(pixel_values=pixels).last_hidden_state.half()


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 autocast, or none for `fp32`, whatever the training's is: cached features and fresh ones are the same."""
    if device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@functools.cache
def load(folder: Path, shape: Shape, device: torch.device, precision: str) -> FrozenViT:
    """The model of a folder. One copy a process and precision: all that use it share it."""
    _check(folder, shape)
    kind = _transformers_model(shape.kind)
    with _quiet():
        model, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    missing = sorted(map(str, (*report["missing_keys"], *report["mismatched_keys"])))
    if missing:
        raise UserError(f"{folder} is not the {shape.kind} model that it says: it lacks {missing[0]}; fetch it again")
    return FrozenViT(shape, model, device, precision)


@functools.cache
def outline(shape: Shape, device: torch.device, precision: str) -> FrozenViT:
    """The model from its sizes alone, with random weights, or none on the meta device: for what it costs."""
    from transformers import CLIPVisionConfig, Dinov2Config

    config = {"clip": CLIPVisionConfig, "dino": Dinov2Config}[shape.kind](
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        patch_size=shape.patch,
        image_size=shape.size,
        **({"intermediate_size": 4 * shape.width} if shape.kind == "clip" else {"mlp_ratio": 4}),
    )
    with torch.device(device):
        return FrozenViT(shape, _transformers_model(shape.kind)(config), device, precision)


def identity(folder: Path, name: str) -> dict[str, str]:
    """What says which weights were used: the model's name and its file's hash."""
    return {"model": name, "sha256": weights_hash(folder)}


def _transformers_model(kind: str) -> Any:
    from transformers import CLIPVisionModel, Dinov2Model  # seconds to import: only where a model is used

    return {"clip": CLIPVisionModel, "dino": Dinov2Model}[kind]


def _quiet() -> AbstractContextManager:
    """A whole CLIP has a text half, whose unused weights transformers would list one by one."""
    from transformers.utils import logging

    class Quiet(AbstractContextManager):
        def __enter__(self) -> None:
            self.before, self.bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
            logging.set_verbosity_error()
            logging.disable_progress_bar()

        def __exit__(self, *exception: object) -> None:
            logging.set_verbosity(self.before)
            if self.bar:
                logging.enable_progress_bar()

    return Quiet()


def _check(folder: Path, shape: Shape) -> None:
    """UserError where the files are of another model than the config describes."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    types = {"clip": ("clip", "clip_vision_model"), "dino": ("dinov2",)}[shape.kind]
    if config.get("model_type") not in types:
        raise UserError(f"{folder} holds a model of type {config.get('model_type')!r}, not {types[0]!r}")
    own: Mapping[str, Any] = config["vision_config"] if config["model_type"] == "clip" else config
    # A stored config may leave out what is the default of its kind.
    from transformers import CLIPVisionConfig, Dinov2Config

    defaults = {"clip": CLIPVisionConfig, "dino": Dinov2Config}[shape.kind]().to_dict()
    stated = {"hidden_size": shape.width, "num_hidden_layers": shape.depth, "num_attention_heads": shape.heads}
    stated |= {"patch_size": shape.patch}
    if shape.kind == "clip":  # DINOv2's positions are interpolated, CLIP's are not
        stated["image_size"] = shape.size
    for key, value in stated.items():
        there = own.get(key, defaults[key])
        if there != value:
            raise UserError(
                f"{folder}/config.json has {key} {there}, image_encoder.clip_dinov2 says {value}: match them"
            )
    preprocessing = folder / "preprocessor_config.json"
    if preprocessing.exists():
        stored = json.loads(preprocessing.read_text(encoding="utf-8"))
        for key, constants in (("image_mean", MEAN), ("image_std", STD)):
            given = stored.get(key, constants[shape.kind])
            if any(abs(a - b) > 1e-6 for a, b in zip(given, constants[shape.kind], strict=True)):
                raise UserError(
                    f"{preprocessing} has {key} {given}, not {constants[shape.kind]}: not the model it says"
                )
