"""Which device a process takes: found once, by using it, and always with its number; what DDP is asked for."""

from types import SimpleNamespace

import lightning_fabric
import pytest
import torch
from lightning_fabric import strategies

from core.errors import UserError
from data.store import Split
from methods import manifest
from methods.contract import Sizes
from methods.foresee.totals import made_up_step
from methods.mar3d import vae_training
from methods.registry import resolve
from methods.training.devices import device_of, fabric_of
from tests.methods.trained import STAGES

TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040).\nUpdate it."


def too_old():
    raise RuntimeError(TOO_OLD)


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_NUM_TASKS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_a_gpu_has_its_number_so_that_what_is_kept_for_it_is_kept_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert device_of() == device_of("cuda") == torch.device("cuda:0")
    assert device_of("cuda:3") == torch.device("cuda:3") and device_of("cpu") == torch.device("cpu")
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert device_of() == device_of("cuda") == torch.device("cuda:1")


@pytest.mark.parametrize("cards", ["0", "GPU-6a1f,MIG-2b"])
def test_a_card_that_was_given_and_cannot_be_used_is_one_sentence(monkeypatch, cards):
    monkeypatch.setattr(torch.cuda, "init", too_old)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    for ask in (device_of, manifest.pick_device):
        with pytest.raises(UserError, match=rf"given GPU {cards}.*\(The NVIDIA driver .* 11040\)\.\): update") as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("cards", [None, "", "-1", "NoDevFiles"])
def test_training_and_manifest_agree_where_there_is_a_driver_and_no_use_in_it(monkeypatch, cards):
    """Once Lightning is imported, `is_available` says yes of it."""
    monkeypatch.setattr(torch.cuda, "init", too_old)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if cards is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    assert device_of() == torch.device("cpu") and manifest.pick_device() == "cpu"
    assert list(manifest.peak_memory_mb()) == ["host"]


@pytest.mark.parametrize("partial", [False, True])
def test_only_a_training_that_leaves_parameters_out_looks_for_them(monkeypatch, partial):
    asked = {}
    monkeypatch.setattr(strategies, "DDPStrategy", lambda **settings: asked.update(settings))
    monkeypatch.setattr(lightning_fabric, "Fabric", lambda **_: SimpleNamespace(launch=lambda: None))
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    fabric_of(torch.device("cpu"), partial=partial)
    assert asked["find_unused_parameters"] is partial and asked["broadcast_buffers"] is False


@pytest.mark.parametrize("setting, stage", STAGES)
def test_every_step_but_that_of_one_bank_of_several_reaches_every_parameter(setting, stage):
    spec = resolve(*setting.split("/"), "smoke").stage(stage)
    step = made_up_step(spec, "smoke", Sizes(points=64, image_size=32), batch=2, device="meta")
    for _, loss in step.draws.values():
        step.module.zero_grad(set_to_none=True)
        loss().backward()
        without = [name for name, p in step.module.named_parameters() if p.requires_grad and p.grad is None]
        assert without if stage == "vae" else not without


@pytest.mark.parametrize("tokens, partial", [({"lr": 4, "hr": 16}, True), ({"hr": 16}, False)])
def test_a_vae_of_several_banks_says_that_it_leaves_parameters_out(prepared, tmp_path, monkeypatch, tokens, partial):
    asked = {}
    monkeypatch.setattr(vae_training, "train", lambda *_, **given: asked.update(given))
    params = dict(resolve("mar3d", "full", "smoke").params)
    params["latent"] = {**params["latent"], "tokens": tokens}
    split, shares = Split(prepared, "train"), dict.fromkeys(tokens, 1 / len(tokens))
    vae_training.train_vae(params, split, None, shares, out=tmp_path, seed=0, device=torch.device("cpu"))
    assert asked["partial"] is partial
