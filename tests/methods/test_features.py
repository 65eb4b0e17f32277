"""Cached features: what is computed, shared, made anew, and what a batch gets from them."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch

from core.errors import UserError
from data.store import Split
from methods.layers import frozen_vit
from methods.layers.image_encoder import build_image_encoder
from methods.training import features
from methods.training.features import cached_features

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder of its own for the cache of a test."""
    monkeypatch.setenv("IMAGE_FEATURES", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch):
    """The number of images of each call of a frozen model."""
    calls: list[tuple[str, int]] = []
    original = frozen_vit.FrozenViT.features

    def counting(self, images):
        calls.append((self.shape.kind, len(images)))
        return original(self, images)

    monkeypatch.setattr(frozen_vit.FrozenViT, "features", counting)
    return calls


def build(image_encoder, **changes):
    params = copy.deepcopy(image_encoder)
    params["clip_dinov2"] |= changes
    torch.manual_seed(0)
    return build_image_encoder(params, 32)


def of(calls, kind):
    return sum(n for k, n in calls if k == kind)


def test_cached_features_are_those_of_the_images(image_encoder, prepared, cache):
    encoder, split = build(image_encoder), Split(prepared, "train")
    assert (len(split), split.n_views) == (8, 4)
    objects, views = torch.tensor([7, 0, 3, 3]), torch.tensor([3, 0, 2, 1])
    stored = cached_features(encoder, split, CPU).rows(objects, views)
    drawn = torch.stack(
        [torch.from_numpy(split.image(int(i), int(v)).copy()) for i, v in zip(objects, views, strict=True)]
    )
    assert stored.dtype == torch.float16
    torch.testing.assert_close(stored, encoder.features(drawn), rtol=2e-3, atol=2e-3)
    assert (stored[2] - stored[3]).abs().max() > 0.01  # another view of an object is another row
    with torch.autocast("cpu", torch.bfloat16):  # as in training
        assert torch.equal(cached_features(encoder, split, CPU).rows(objects, views), stored)


def test_computed_once_and_shared_by_fusions(image_encoder, prepared, cache, computed):
    split = Split(prepared, "train")
    cached_features(build(image_encoder, fusion="clip_only"), split, CPU)
    assert (of(computed, "clip"), of(computed, "dino")) == (32, 0)
    cached_features(build(image_encoder), split, CPU)
    assert (of(computed, "clip"), of(computed, "dino")) == (32, 32)
    for fusion in ("sum", "token", "clip_only", "concat"):
        cached_features(build(image_encoder, fusion=fusion, cache_gb=2), split, CPU)
    assert (of(computed, "clip"), of(computed, "dino")) == (32, 32)
    assert len(list(cache.iterdir())) == 2


def test_other_weights_data_or_precision_are_another_cache(
    image_encoder, prepared, ellipsoids, pretrained_models, tmp_path, cache, computed, monkeypatch
):
    cached_features(build(image_encoder), Split(prepared, "train"), CPU)
    cached_features(build(image_encoder, precision="bf16"), Split(prepared, "train"), CPU)
    assert len(list(cache.iterdir())) == 4 and len(computed) == 4
    cached_features(build(image_encoder), Split(ellipsoids, "train"), CPU)
    assert len(list(cache.iterdir())) == 6
    models = tmp_path / "models"
    shutil.copytree(pretrained_models, models)
    other_weights(models / "facebook/dinov2-large")
    monkeypatch.setenv("PRETRAINED_MODELS", str(models))
    cached_features(build(image_encoder), Split(prepared, "train"), CPU)
    assert len(list(cache.iterdir())) == 7 and computed[-1][0] == "dino"  # CLIP's is still good


def other_weights(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({k: v + 0.01 for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def test_a_killed_run_goes_on_with_the_next_file(image_encoder, prepared, cache, computed, monkeypatch):
    monkeypatch.setattr(features, "ROWS", 8)
    encoder, split = build(image_encoder, fusion="clip_only"), Split(prepared, "train")
    original = features.save_tensors

    def killed(path, tensors, metadata=None):
        if path.stem == "00002":
            raise KeyboardInterrupt
        original(path, tensors, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(features, "save_tensors", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_features(encoder, split, CPU)
    assert of(computed, "clip") == 24
    whole = cached_features(encoder, split, CPU)
    assert of(computed, "clip") == 24 + 16
    objects, views = torch.arange(32) // 4, torch.arange(32) % 4
    pieces = whole.rows(objects, views)
    monkeypatch.setattr(features, "ROWS", 512)
    shutil.rmtree(cache)
    torch.testing.assert_close(cached_features(encoder, split, CPU).rows(objects, views), pieces, rtol=2e-3, atol=2e-3)


def test_beyond_the_budget_nothing_is_cached_and_it_is_said(image_encoder, prepared, cache, capsys):
    split = Split(prepared, "train")
    size = 32 * 5 * (16 + 24) * 2 / 1e9
    assert cached_features(build(image_encoder, cache_gb=size * 0.99), split, CPU) is None
    said = capsys.readouterr().err
    assert "computed as images are drawn: 32 views take 1.28e-05 GB" in said and not cache.exists()
    assert cached_features(build(image_encoder, cache_gb=size), split, CPU) is not None
    assert f"cached in {cache}" in capsys.readouterr().err


def test_the_papers_data_are_beyond_any_budget():
    """256,000 objects, 56 views, 257 tokens of 2048 channels: 15 TB."""
    from methods.registry import resolve

    params = resolve("mar3d", "full", "paper").params["image_encoder"]
    with torch.device("meta"):
        encoder = build_image_encoder(params, 512)

    class Paper:
        n_views = 56

        def __len__(self) -> int:
            return 256_000

    assert cached_features(encoder, Paper(), CPU) is None


def test_no_room_is_one_sentence(image_encoder, prepared, cache, monkeypatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(UserError, match="lower image_encoder"):
        cached_features(build(image_encoder), Split(prepared, "train"), CPU)


def test_a_torn_file_is_one_sentence(image_encoder, prepared, cache):
    encoder, split = build(image_encoder), Split(prepared, "train")
    cached_features(encoder, split, CPU)
    for path in cache.glob("clip-*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(UserError, match="delete it, and it is made again"):
        cached_features(encoder, split, CPU).rows(torch.tensor([0]), torch.tensor([0]))


def test_no_file_stays_open(image_encoder, prepared, cache, monkeypatch):
    """A process may hold about 1,000, and a cache of 270 GB has as many."""
    monkeypatch.setattr(features, "ROWS", 2)
    encoder, split = build(image_encoder, fusion="clip_only"), Split(prepared, "train")
    stored = cached_features(encoder, split, CPU)
    before = len(list(Path("/proc/self/fd").iterdir()))
    objects, views = torch.arange(32) // 4, torch.arange(32) % 4
    found = stored.rows(objects, views)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert torch.equal(found[[3, 30]], stored.rows(objects[[3, 30]], views[[3, 30]]))


def test_an_encoder_that_is_trained_has_nothing_to_cache(prepared, cache):
    scratch = build_image_encoder(
        {"name": "scratch", "scratch": {"patch": 8, "stem": 8, "width": 8, "depth": 1, "heads": 1}}, 32
    )
    assert cached_features(scratch, Split(prepared, "train"), CPU) is None and not cache.exists()


def test_without_another_place_the_cache_lies_with_the_data(image_encoder, prepared, tmp_path, monkeypatch):
    monkeypatch.delenv("IMAGE_FEATURES", raising=False)
    shutil.copytree(prepared, tmp_path / "data")
    cached_features(build(image_encoder), Split(tmp_path / "data", "train"), CPU)
    assert len(list((tmp_path / "data" / "features").iterdir())) == 2
