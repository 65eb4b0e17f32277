"""What a generator on the VAE's latents trains on: images, latents of the shapes in them, noised LR tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from data.store import Split
from methods.contract import PreparedData
from methods.mar3d.latents import LatentPool, kept_for, make_again
from methods.training.draws import WHOLE, Share
from methods.training.features import CachedFeatures, cached_features
from methods.training.phases import phases_of
from methods.training.pool import Surfaced, draw_views
from methods.training.streaming import Images, surfaces_of


class Batch(NamedTuple):
    """images: (b, h, w, 4) uint8, or what `condition_on` draws. latents: (b, tokens, channels), standardised.

    low: noised LR tokens, or None.
    """

    images: Tensor
    latents: Tensor
    low: Tensor | None


class Examples:
    """Training views of a dataset with the frozen VAE's latents of one bank, drawn at random.

    vae: folder of the fitted VAE. rotated_share: of the draws that take a rotated view. augmentation: interval
    `low` to `high` of t in the condition augmentation of the LR tokens; without it no LR tokens are drawn. training: of
    the stage; its batch, precision and phases. hardware: memory_gb (what takes more is read as it is drawn), workers.
    """

    def __init__(
        self,
        data: PreparedData,
        vae: Path,
        bank: str,
        *,
        training: Mapping[str, Any],
        rotated_share: float,
        augmentation: Mapping[str, float] | None,
        device: torch.device,
        hardware: Mapping[str, Any],
    ) -> None:
        self.split, self.bank, self.batch, self.device = Split(data.folder, "train"), bank, training["batch"], device
        self.phases = phases_of(self.split, training)
        room, readers = hardware["memory_gb"], hardware["workers"]

        def surfaces() -> Surfaced:
            return surfaces_of(self.split, device, memory_gb=room, readers=readers, occupancy=False)

        if not kept_for(vae, self.split):
            make_again(vae, self.split, surfaces, device)
        pool = None if kept_for(vae, self.split) else surfaces()
        self.latents = LatentPool(vae, pool, device, training["precision"], room)
        self.rotated_share, self.augmentation, self.room = rotated_share, augmentation, room
        self.images: Images | CachedFeatures | None = None

    @property
    def image_size(self) -> int:
        """Pixels a side of the condition images."""
        return self.split.image_size

    def condition_on(self, encoder: nn.Module) -> dict[str, str]:
        """Draw images, or in their place what a frozen encoder makes of them, where that is cached; before any draw.

        Returns which of the two it is, for the record; nothing for an encoder that is trained.
        """
        features = cached_features(encoder, self.split, self.device)
        self.images = features or Images(self.split, self.device, memory_gb=self.room)
        if features is None and self.device.type == "cuda":
            self.images.decode(torch.get_num_threads())
        if not hasattr(encoder, "features"):
            return {}
        return {"image_features": "cached" if features else "computed as drawn"}

    def drawing_flops(self) -> int:
        """Operations of the frozen VAE while a whole batch is drawn."""
        banks = [self.bank] if self.augmentation is None else ["lr", self.bank]
        return self.batch * sum(self.latents.drawing_flops(bank) for bank in banks)

    def draw(self, generator: torch.Generator, share: Share = WHOLE) -> Batch:
        """The share's rows of a batch of the generator's, of the objects of the step's phase."""
        split = self.split
        objects = share.rows(self.phases.draw(share.step, self.batch, generator))
        views = draw_views(self.batch, len(split.upright_views), split.n_views, self.rotated_share, generator)
        views = share.rows(views)
        low = None
        if self.augmentation is not None:
            # Condition augmentation: x' = t noise + (1 - t) x, one t a sample.
            start, end = self.augmentation["low"], self.augmentation["high"]
            t = share.uniform((len(objects), 1, 1), generator, self.device) * (end - start) + start
            low = self.latents.draw("lr", objects, views, generator, share)
            low = augment(low, t, share.normal(low.shape, generator, self.device))
        target = self.latents.draw(self.bank, objects, views, generator, share)
        return Batch(self.images.rows(objects, views), target, low)


def augment(low: Tensor, t: Tensor | float, noise: Tensor) -> Tensor:
    """Condition augmentation of LR tokens (MAR-3D section 3.3): t noise + (1 - t) low."""
    return t * noise + (1 - t) * low
