"""Training: the schedule, which parameters Muon takes, exact resume, divergence."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import UserError
from methods.training.checkpoint import read_header
from methods.training.loop import DivergedError, seeded, train
from methods.training.optimiser import build_optimisers, learning_rate_factor, split_parameters

OPTIMISER = {
    "name": "muon", "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.01, "adamw_lr": 1e-2,
    "warmup": 0.1, "floor": 0.01, "clip": 1.0, "ema": 0.9,
}  # fmt: skip
TRAINING = {"steps": 40, "lr": 1e-2, "precision": "fp32"}


def test_learning_rate_rises_once_and_falls_once():
    rates = [learning_rate_factor(s, 1000, 0.1, 0.01) for s in range(1001)]
    assert max(rates) == 1.0 and rates[99] == 1.0 and abs(rates[1000] - 0.01) < 1e-12
    assert np.all(np.diff(rates[:100]) > 0) and np.all(np.diff(rates[100:]) <= 0)


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4))


def test_muon_takes_hidden_matrices_only():
    hidden, rest = split_parameters(network(), ["0.", "5."])
    assert [tuple(p.shape) for p in hidden] == [(8, 8)]
    assert len(rest) == 7
    assert [type(o).__name__ for o in build_optimisers(network(), OPTIMISER, 1e-2, ["0."])] == ["Muon", "AdamW"]


def test_unknown_optimiser_is_one_sentence():
    with pytest.raises(UserError, match="must be adamw or muon"):
        build_optimisers(network(), {**OPTIMISER, "name": "sgd"}, 1e-2)


def fit(out, optimiser="muon", stop_at=None, **options):
    model = seeded(network, "test", 0)
    calls = []

    def loss(generator):
        calls.append(1)
        if stop_at is not None and len(calls) > stop_at:
            raise KeyboardInterrupt
        x = torch.randn((16, 4), generator=generator)
        return (model(x) - x).square().mean(), {}

    settings = {"name": "test", "seed": 0, "optimiser": {**OPTIMISER, "name": optimiser}, "training": TRAINING}
    return train(model, loss, out=out, **settings, **options).state_dict()


def test_training_lowers_the_loss_and_logs_it(tmp_path):
    fit(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "fit.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 40 and lines[-1]["loss"] < 0.7 * lines[0]["loss"]


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, optimiser):
    whole = fit(tmp_path / "whole", optimiser)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "parts", optimiser, stop_at=17, save_every=0.0)
    assert read_header(tmp_path / "parts" / "resume")["step"] > 0
    parts = fit(tmp_path / "parts", optimiser)
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    assert (tmp_path / "parts" / "fit.jsonl").read_text() == (tmp_path / "whole" / "fit.jsonl").read_text()


def test_global_generator_is_left_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_nan_stops_with_a_remedy(tmp_path):
    model = network()
    with pytest.raises(DivergedError, match="lower its learning rate"):
        train(
            model, lambda _: (next(model.parameters()).sum() * math.nan, {}),
            name="test", seed=0, out=tmp_path, optimiser=OPTIMISER, training=TRAINING,
        )  # fmt: skip
