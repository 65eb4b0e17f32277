import pytest
import torch
from torch import nn

from methods.mar3d.decoding import LatentGenerator
from methods.training.weights import frozen, load_weights, lowered, save_weights, warm_start

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


class Tokens(nn.Module):
    """A few places with a vector each, and perhaps an embedding of a further condition."""

    def __init__(self, places: int, further: bool) -> None:
        super().__init__()
        self.places, self.mix = nn.Parameter(torch.randn(1, places, 3)), nn.Linear(3, 3)
        if further:
            self.further, self.mix_low = nn.Linear(2, 3), nn.Linear(3, 3)
            self.places_low = nn.Parameter(torch.randn(1, places, 3))


def test_a_warm_start_takes_what_both_have_as_far_as_both_reach(tmp_path):
    start, module = Tokens(2, further=False), Tokens(4, further=True)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_weights(tmp_path, start.state_dict(), {})
    warm_start(module, tmp_path, also={"mix_low": "mix", "places_low": "places"})
    assert torch.equal(module.mix_low.weight, start.mix.weight) and torch.equal(module.mix_low.bias, start.mix.bias)
    assert torch.equal(module.places_low[:, :2], start.places)
    assert torch.equal(module.mix.weight, start.mix.weight) and torch.equal(module.mix.bias, start.mix.bias)
    assert torch.equal(module.places[:, :2], start.places)
    assert torch.equal(module.places[:, 2:], before["places"][:, 2:])
    assert torch.equal(module.further.weight, before["further.weight"])
    assert all(p.requires_grad for p in module.parameters())


def test_weights_held_in_bf16_give_the_bits_that_autocast_gives():
    module = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).eval().requires_grad_(False)
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = module(x)
        assert torch.equal(lowered(module, "bf16")(x), before)
    assert module[0].weight.dtype == torch.bfloat16 and module[1].weight.dtype == torch.float32
    assert lowered(nn.Linear(2, 2), "fp32").weight.dtype == torch.float32


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

    with pytest.raises(TypeError, match=r"abstract method '?latents"):
        Silent({}, None, CPU)
