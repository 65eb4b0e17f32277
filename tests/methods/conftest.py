"""Small pretrained models with random weights, saved by transformers itself as the hub has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CLIP, DINO = "openai/clip-vit-large-patch14", "facebook/dinov2-large"


def save_clip(folder: Path, seed: int = 0) -> Path:
    """A whole CLIP, text half included, of width 16; as the hub has it."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    vision = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"patch_size": 14, "image_size": 28}
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text |= {"vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)).save_pretrained(folder)
    return folder


def save_dino(folder: Path, seed: int = 0) -> Path:
    """A DINOv2 of width 24, made for images of 42 pixels: positions are interpolated, as those of 518 are."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 14, "image_size": 42}
    Dinov2Model(Dinov2Config(**sizes, mlp_ratio=4)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pretrained_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as $PRETRAINED_MODELS wants it, with both models under their names on the hub."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        save_clip(folder / CLIP)
        save_dino(folder / DINO)
    return folder


@pytest.fixture
def image_encoder(pretrained_models: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The section `image_encoder` of a config that names the small models; change a copy."""
    monkeypatch.setenv("PRETRAINED_MODELS", str(pretrained_models))
    own = {
        "clip": {"model": CLIP, "revision": "main", "width": 16, "depth": 2, "heads": 2},
        "dino": {"model": DINO, "revision": "main", "width": 24, "depth": 2, "heads": 3},
    }
    own |= {"patch": 14, "size": 28, "fusion": "concat", "precision": "fp32", "cache_gb": 1}
    return {"name": "clip_dinov2", "clip_dinov2": own}
