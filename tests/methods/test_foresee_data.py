"""What a plan says of the data, against closed forms and against the pools that hold them."""

import pytest
import torch

from core.errors import UserError
from data.store import Split
from methods.foresee.data import data_text, foresee_data, objects_of, views_of
from methods.foresee.sizes import configuration
from methods.foresee.totals import foresee_kept
from methods.mar3d.latents import CACHE_BYTES
from methods.registry import resolve
from methods.training.pool import SurfacePool
from methods.training.streaming import Images


def test_at_gpu_all_training_data_lie_on_the_device():
    config = configuration("gpu")
    objects = objects_of(config, "procedural", None)
    views = views_of(config, objects)["train"]
    kept, memory_gb = foresee_kept([("mar3d", "full"), ("dit", "cascade")], "gpu", views)
    data = foresee_data(config, "procedural", objects, kept, memory_gb)
    assert data.limit == resolve("mar3d", "full", "gpu").params["hardware"]["memory_gb"] * 1e9
    assert 0 < kept["latents"] <= CACHE_BYTES  # beyond that they would be encoded as they are drawn
    assert all(0 < size <= data.limit for size in data.device.values())
    assert sum(data.device.values()) < 45e9  # beside a training: tests/methods/test_foresee.py
    assert "streamed" not in "\n".join(data_text(data))


def test_epochs_are_samples_over_objects():
    data = foresee_data(configuration("gpu"), "procedural", {"train": 4000}, {}, None)
    assert "mar3d.vae 64.0, mar3d.mar_lr 0.5" in data_text(data, {"mar3d.vae": 256000, "mar3d.mar_lr": 2000})[-1]


def test_more_objects_are_streamed_and_said_so():
    config = configuration("gpu")
    objects = objects_of(config, "procedural", 40000)
    kept, memory_gb = foresee_kept([("mar3d", "full")], "gpu", views_of(config, objects)["train"])
    assert "latents" not in kept
    text = "\n".join(data_text(foresee_data(config, "procedural", objects, kept, memory_gb)))
    assert "images 256.9 GB (streamed)" in text  # 40,000 objects x 32 views x 224^2 pixels x 4 bytes


def test_what_is_foreseen_is_what_the_pools_take(prepared):
    split = Split(prepared, "train")
    config = {**configuration("smoke"), "prepare": split.params}
    data = foresee_data(config, "procedural", {"train": len(split)}, {}, None)
    assert data.device["surfaces"] == SurfacePool.size(split)
    images = Images(split, torch.device("cpu"), memory_gb=1)
    assert data.device["images"] == images.kept.numel()
    assert data.views == {"train": len(split) * split.n_views}


def test_at_paper_processor_hours_and_disk_follow_from_the_stated_constants():
    config = configuration("paper")
    objects = objects_of(config, "objaverse", 320000)
    data = foresee_data(config, "objaverse", objects, {}, 32)
    assert data.views["train"] == 320000 * 56
    assert data.disk["as downloaded"] == pytest.approx(12.5e6 * sum(objects.values()))
    assert 250e9 < data.disk["prepared"] < 1000e9
    assert data.core_hours == pytest.approx((sum(data.views.values()) * 0.11 + sum(objects.values())) / 3600)
    assert data.shards < 320000 / 50  # jobs depend on shards
    kept, _ = foresee_kept([("mar3d", "full")], "paper", data.views["train"])
    assert kept == {}  # neither latents nor features of that many views
    few, _ = foresee_kept([("mar3d", "full")], "paper", 1000)
    assert few["image features"] == 1000 * 257 * 2048 * 2


def test_how_many_objects_must_be_known():
    config = configuration("paper")
    with pytest.raises(UserError, match="say --objects"):
        objects_of(config, "objaverse", None)
    with pytest.raises(UserError, match="no dataset 'objavers'"):
        objects_of(config, "objavers", 1)
    with pytest.raises(UserError, match="at least 1"):
        objects_of(config, "procedural", 0)
