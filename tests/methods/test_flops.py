"""FLOPs: closed forms of what is counted, and their way into the manifests."""

import json

import pytest
import torch
from torch import nn

from methods.layers.attention import attend
from methods.training.flops import counted
from methods.training.loop import COSTS, COUNTED_STEPS, train

B, N, WIDTH, OUT = 3, 5, 8, 16
OPTIMISER = {
    "name": "adamw", "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.0,
    "warmup": 0.1, "floor": 0.01, "clip": 1.0, "ema": 0.9,
}  # fmt: skip


def test_linear_is_two_operations_a_weight_and_row():
    layer, x = nn.Linear(WIDTH, OUT), torch.randn(B, N, WIDTH, requires_grad=True)
    forward = 2 * B * N * WIDTH * OUT
    y, count = counted(lambda: layer(x))
    assert count == forward
    assert counted(lambda: y.sum().backward())[1] == 2 * forward  # gradients of the weights and of the input


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_is_two_matrix_products(device):
    heads, keys, channels = 2, 7, 4
    q = torch.zeros(B, heads, N, channels, device=device)
    k, v = (torch.zeros(B, heads, keys, channels, device=device) for _ in range(2))
    assert counted(lambda: attend(q, k, v))[1] == 2 * (2 * B * heads * N * keys * channels)


def fit(out, steps, rows, stop_at=None):
    """Train one Linear whose step s sees rows(s) rows; returns the costs."""
    model, calls = nn.Linear(WIDTH, OUT), []

    def draw(generator, share):
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        calls.append(1)
        return torch.randn(rows(len(calls) - 1), WIDTH, generator=generator)

    def loss(x, generator, share):
        return model(x).square().mean(), {}

    training = {"steps": steps, "batch": 1, "lr": 1e-3, "precision": "fp32"}
    train(model, draw, loss, name="t", seed=0, out=out, optimiser=OPTIMISER, training=training, save_every=0.0)
    return json.loads((out / COSTS).read_text())


def test_a_training_costs_its_first_steps_mean_times_its_steps(tmp_path):
    # The input needs no gradient: forward and the weights' gradient.
    row = 2 * 2 * WIDTH * OUT
    costs = fit(tmp_path, 20, lambda step: 1 + step)
    assert costs["parameters"] == WIDTH * OUT + OUT
    assert costs["step_flops"] == row * (1 + COUNTED_STEPS) / 2
    assert costs["training_flops"] == 20 * costs["step_flops"]


def test_a_resumed_training_counts_the_same(tmp_path):
    whole = fit(tmp_path / "whole", 20, lambda _: 4)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", 20, lambda _: 4, stop_at=5)
    assert fit(tmp_path / "parts", 20, lambda _: 4) == whole
