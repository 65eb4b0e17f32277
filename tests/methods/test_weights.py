import pytest
import torch
from torch import nn

from methods.mar3d.method import LatentGenerator
from methods.training.weights import frozen, load_weights, save_weights

CPU = torch.device("cpu")


def test_what_is_saved_is_built_again_and_frozen(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    save_weights(tmp_path, module.state_dict(), {"params": {"width": 3}, "image_size": 32})
    header, tensors = load_weights(tmp_path, CPU)
    assert header == {"params": {"width": 3}, "image_size": 32}
    again = frozen(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), tensors, CPU)
    x = torch.ones(5, 3)
    assert torch.equal(again(x), module.eval()(x))
    assert not again.training and not any(p.requires_grad for p in again.parameters())


def test_equal_weights_are_equal_bytes(tmp_path):
    tensors = {name: torch.arange(4.0) for name in "abcdefgh"}
    files = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        save_weights(tmp_path / run, tensors, {"params": {"b": 1, "a": 2}, "image_size": 8, "stage": "s"})
        files.append((tmp_path / run / "weights.safetensors").read_bytes())
    assert files[0] == files[1]


def test_a_generator_that_does_not_say_how_it_samples_is_refused():
    class Silent(LatentGenerator):
        pass

    with pytest.raises(TypeError, match=r"abstract method '?sample"):
        Silent({}, None, CPU)
