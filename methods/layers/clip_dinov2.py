"""The paper's image encoder: frozen CLIP ViT-L/14 and DINOv2 ViT-L/14, 257 tokens each, fused.

The paper says "concatenated features" and not along which axis; `fusion` has the ways to read it:

    concat      norm(CLIP) and norm(DINOv2) side by side in each token: 257 tokens of both widths together
    sum         each normed and projected to CLIP's width, summed: 257 tokens (CraftsMan's way)
    token       each normed and projected to CLIP's width, one after the other: 514 tokens
    clip_only   norm(CLIP): 257 tokens (what the released code does)

Whoever uses the encoder projects its tokens once more, so `concat` and `sum` can express the same functions and differ
in how they start. CLIP's tokens come from before its last norm; with the norms here both start at unit variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UserError
from core.files import read_json, write_json
from methods.layers import frozen_vit
from methods.layers.frozen_vit import FrozenViT, Shape
from methods.layers.pretrained import Pretrained, require

FUSIONS = ("concat", "sum", "token", "clip_only")
Identity = Mapping[str, Mapping[str, str]]
"""Of each frozen model: its name and the SHA-256 of its weights."""


class ClipDinov2(nn.Module):
    """Trained norms and projections behind frozen models, which are loaded when they are first used.

    clip, dino: `model` (name or folder), `revision`, and the sizes `width`, `depth`, `heads`. size: pixels a side that
    the images are resized to. cache_gb: features of all training views are cached if they take no more (10^9 bytes).
    """

    def __init__(
        self,
        *,
        image_size: int,
        clip: Mapping[str, Any],
        dino: Mapping[str, Any],
        patch: int,
        size: int,
        fusion: str,
        precision: str,
        cache_gb: float,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise UserError(f"image_encoder.clip_dinov2.fusion is {fusion!r}; it must be one of {', '.join(FUSIONS)}.")
        if size % patch:
            raise UserError(f"image_encoder.clip_dinov2.size is {size}; it must be a multiple of its patch, {patch}.")
        named = {"clip": clip} if fusion == "clip_only" else {"clip": clip, "dino": dino}
        self.fusion, self.precision, self.cache_gb = fusion, precision, cache_gb
        self.made_up = False
        """Whether the frozen models are random ones of these sizes, which take what the true ones take."""
        self.sources = {kind: Pretrained(own["model"], own["revision"]) for kind, own in named.items()}
        self.shapes = {
            kind: Shape(kind, own["width"], own["depth"], own["heads"], patch, size) for kind, own in named.items()
        }
        widths = [shape.width for shape in self.shapes.values()]
        per_model = self.shapes["clip"].tokens
        self.tokens = per_model * len(widths) if fusion == "token" else per_model
        self.width = sum(widths) if fusion in ("concat", "clip_only") else widths[0]
        self.norms = nn.ModuleDict({kind: nn.LayerNorm(shape.width) for kind, shape in self.shapes.items()})
        if fusion in ("sum", "token"):
            self.embed = nn.ModuleDict({k: nn.Linear(shape.width, self.width) for k, shape in self.shapes.items()})

    @cached_property
    def folders(self) -> dict[str, Path]:
        """Where the frozen models' files are; UserError, naming what to put where, if one is missing."""
        found = require(self.sources.values())
        return {kind: found[source] for kind, source in self.sources.items()}

    @property
    def identity(self) -> dict[str, dict[str, str]]:
        """Which frozen weights these are, for the header of what is trained behind them."""
        return {kind: frozen_vit.identity(f, self.sources[kind].model) for kind, f in self.folders.items()}

    def frozen(self, kind: str, device: torch.device) -> FrozenViT:
        """The frozen model `clip` or `dino` on a device."""
        shape = self.shapes[kind]
        if self.made_up or device.type == "meta":
            return frozen_vit.outline(shape, device, self.precision)
        return frozen_vit.load(self.folders[kind], shape, device, self.precision)

    def features(self, images: Tensor) -> Tensor:
        """What the frozen models say of images (b, h, w, 4) uint8: (b, tokens of one, all widths) float16."""
        models = [self.frozen(kind, images.device) for kind in self.shapes]
        with frozen_vit.autocast(images.device, "fp32"):  # bf16 autocast on a CPU does not concatenate float16
            return torch.cat([model.features(images) for model in models], -1)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens (b, tokens, width) of images (b, h, w, 4) uint8, or of their `features`."""
        features = images if images.is_floating_point() else self.features(images)
        split = features.float().split([shape.width for shape in self.shapes.values()], -1)
        parts = {kind: self.norms[kind](part) for kind, part in zip(self.shapes, split, strict=True)}
        if self.fusion in ("concat", "clip_only"):
            return torch.cat(list(parts.values()), -1)
        projected = [self.embed[kind](part) for kind, part in parts.items()]
        return torch.cat(projected, 1) if self.fusion == "token" else torch.stack(projected).sum(0)


def frozen_identity(encoder: nn.Module, resume: Path) -> dict[str, Identity]:
    """`{"image_encoder": …}` for the header of a network with this encoder; empty where nothing in it is frozen.

    Noted in the folder `resume` as well: UserError if the training that goes on there was begun behind other weights.
    """
    if not isinstance(encoder, ClipDinov2):
        return {}
    note = resume / "image_encoder.json"
    if note.exists():
        check_identity(encoder, read_json(note), resume)
    write_json(note, encoder.identity)
    return {"image_encoder": encoder.identity}


def check_identity(encoder: nn.Module, recorded: Identity | None, where: Path) -> None:
    """UserError if the frozen weights are other ones than those that the network in `where` was trained behind."""
    if not isinstance(encoder, ClipDinov2):
        return
    for kind, now in encoder.identity.items():
        before = (recorded or {}).get(kind, {})
        if before.get("sha256") != now["sha256"]:
            raise UserError(
                f"{where} was trained behind {before.get('model')} with weights {str(before.get('sha256'))[:12]}…, and "
                f"{encoder.folders[kind]} holds {now['sha256'][:12]}…: put the former there, or train again"
            )
