"""FLOPs: closed forms of what is counted, and their way into the manifests."""

import json

import pytest
import torch
from torch import nn

from methods.layers.attention import attend
from methods.training import loop
from methods.training.flops import COUNTED_STEPS, counted, counted_steps, training_record
from methods.training.log import COSTS
from methods.training.loop import train

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


def fit(out, steps, rows, stop_at=None, keep=None):
    """Train one Linear whose step s sees rows(s) rows; returns the costs."""
    torch.manual_seed(0)
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
    if keep is not None:
        keep.append(model.state_dict())
    return json.loads((out / COSTS).read_text())


def test_muon_is_five_iterations_of_three_matrix_products():
    # X (m, n), n <= m: the Gram matrix A = X'X, its square, and their product with X, five times.
    m, n = 12, 8
    weight = nn.Parameter(torch.randn(m, n))
    weight.grad = torch.randn(m, n)
    optimiser = torch.optim.Muon([weight], lr=1e-2, adjust_lr_fn="match_rms_adamw")
    assert counted(optimiser.step)[1] == 5 * (2 * 2 * n * n * m + 2 * n**3)


@pytest.mark.parametrize("steps", [1, 5, 16, 20, 1000])
def test_counted_steps_are_spread_over_the_training(steps):
    chosen = sorted(counted_steps(steps))
    assert len(chosen) == min(steps, COUNTED_STEPS) and chosen[0] == 0 and chosen[-1] < steps
    gaps = [b - a for a, b in zip(chosen, [*chosen[1:], steps], strict=True)]
    assert max(gaps) - min(gaps) <= 1


def test_a_training_costs_the_mean_of_its_counted_steps_times_its_steps(tmp_path):
    # The input needs no gradient: forward and the weights' gradient. Step s sees 1 + s rows.
    costs = fit(tmp_path, 2 * COUNTED_STEPS, lambda step: 1 + step)
    assert costs["parameters"] == WIDTH * OUT + OUT
    assert costs["step_flops"] == 2 * 2 * WIDTH * OUT * COUNTED_STEPS  # rows 1, 3, 5, …: their mean is COUNTED_STEPS
    assert costs["training_flops"] == 2 * COUNTED_STEPS * costs["step_flops"]
    assert costs["steps_counted"] == COUNTED_STEPS and costs["optimiser_step_flops"] == 0  # AdamW has no products


def test_the_record_says_how_sure_its_mean_is():
    record = training_record([(10, 3), (14, 3)], 100)
    assert record["step_flops"] == 12 and record["step_flops_standard_error"] == 2  # stdev 2.83 over sqrt 2
    assert record["training_flops"] == 1200 and record["optimiser_step_flops"] == 3
    assert training_record([(10, 3)], 1)["step_flops_standard_error"] == 0


def test_what_networks_do_while_a_batch_is_drawn_is_part_of_a_step():
    counts = [(10, 3), (14, 3)]
    bare, whole = training_record(counts, 100), training_record(counts, 100, drawing=5)
    assert whole == {**bare, "step_flops": 17, "training_flops": 1700}


def test_counting_changes_no_weight(tmp_path, monkeypatch):
    counting = fit(tmp_path / "a", 20, lambda _: 4, keep=(kept := []))
    monkeypatch.setattr(loop, "counted", lambda call: (call(), 0))
    plain = fit(tmp_path / "b", 20, lambda _: 4, keep=kept)
    assert counting["step_flops"] > 0 == plain["step_flops"]
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])


def test_a_resumed_training_counts_the_same(tmp_path):
    whole = fit(tmp_path / "whole", 20, lambda _: 4)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", 20, lambda _: 4, stop_at=5)
    assert fit(tmp_path / "parts", 20, lambda _: 4) == whole
