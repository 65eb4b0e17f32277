"""Muon of many matrices together is torch's Muon of each."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from methods.training.muon import BatchedMuon
from methods.training.optimiser import build_optimisers

SETTINGS = {"lr": 1e-2, "momentum": 0.95, "ns_steps": 5, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
SHAPES = [(24, 24), (48, 24), (24, 24), (24, 48), (48, 24), (8, 8)]


def parameters(shapes):
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def take(optimiser, own, step, left_out=()):
    generator = torch.Generator().manual_seed(step)
    for i, p in enumerate(own):
        gradient = torch.randn(p.shape, generator=generator)
        p.grad = None if i in left_out else gradient
    optimiser.step()


def test_steps_and_state_are_those_of_torchs_own():
    begin, alone, together = (parameters(SHAPES) for _ in range(3))
    one, many = torch.optim.Muon(alone, **SETTINGS), BatchedMuon(together, **SETTINGS)
    for step in range(4):
        for optimiser_, own in ((one, alone), (many, together)):
            take(optimiser_, own, step, left_out=(2, 5) if step == 1 else ())
    for start, a, b in zip(begin, alone, together, strict=True):
        assert (a - b).norm() < 0.01 * (a - start).norm()  # bfloat16
        torch.testing.assert_close(many.state[b]["momentum_buffer"], one.state[a]["momentum_buffer"])
    many.load_state_dict(one.state_dict())  # a training may go on on another device


class Launches(TorchDispatchMode):
    """Counts operations, each of which is a kernel or a few on a GPU."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += 1
        return function(*arguments, **(named or {}))


def test_more_matrices_of_a_shape_take_no_more_operations():
    counts = []
    for n in (2, 20):
        own = parameters([(16, 24)] * n)
        muon = BatchedMuon(own, **SETTINGS)
        take(muon, own, 0)
        with Launches() as launches:
            muon.step()
        counts.append(launches.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_every_device_takes_them_together_and_the_rest_by_a_fused_kernel(device):
    params = {"name": "muon", "betas": (0.9, 0.99), "eps": 1e-8, "adamw_lr": 1e-3, "weight_decay": 0.1}
    module = nn.Linear(4, 4, device=device)
    built = build_optimisers(module, params | {"momentum": 0.95, "ns_steps": 5}, 1e-2)
    assert [type(o) for o in built] == [BatchedMuon, torch.optim.AdamW]
    assert built[1].param_groups[0]["fused"] is (device == "cpu")  # no kernel for shapes alone
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    for o in built:
        o.step()
    assert all(o.state for o in built)
