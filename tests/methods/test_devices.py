"""Which device a process takes: found once, by using it, and always with its number."""

import pytest
import torch

from core.errors import UserError
from methods import manifest
from methods.training.devices import device_of

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
