"""Training: the schedule, which parameters Muon takes, exact resume, divergence."""

import json
import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import UserError
from methods.training import loop
from methods.training.checkpoint import read_header
from methods.training.log import complain_of_waiting
from methods.training.loop import DivergedError, compile_blocks, seeded, train
from methods.training.optimiser import build_optimisers, learning_rate_factor, split_parameters

OPTIMISER = {
    "name": "muon", "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.01, "adamw_lr": 1e-2,
    "momentum": 0.95, "ns_steps": 5,
    "warmup": 0.1, "floor": 0.01, "clip": 1.0, "ema": 0.9,
}  # fmt: skip
TRAINING = {"steps": 40, "batch": 16, "lr": 1e-2, "precision": "fp32"}


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
    assert [type(o).__name__ for o in build_optimisers(network(), OPTIMISER, 1e-2, ["0."])] == ["BatchedMuon", "AdamW"]


def test_a_torn_resume_state_is_one_sentence(tmp_path):
    assert read_header(tmp_path) is None
    (tmp_path / "state.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match="delete it, and the training begins again"):
        read_header(tmp_path)


def test_unknown_optimiser_is_one_sentence():
    with pytest.raises(UserError, match="must be adamw or muon"):
        build_optimisers(network(), {**OPTIMISER, "name": "sgd"}, 1e-2)


def fit(out, optimiser="muon", stop_at=None, **options):
    model = seeded(network, "test", 0)
    calls = []

    def draw(generator, share):
        return share.rows(torch.randn((16, 4), generator=generator))

    def loss(x, generator, share):
        calls.append(1)
        if stop_at is not None and len(calls) > stop_at:
            raise KeyboardInterrupt
        return (model(x) - x).square().mean(), {}

    settings = {"name": "test", "seed": 0, "optimiser": {**OPTIMISER, "name": optimiser}, "training": TRAINING}
    return train(model, draw, loss, out=out, **settings, **options).state_dict()


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
            model, lambda *_: None, lambda *_: (next(model.parameters()).sum() * math.nan, {}),
            name="test", seed=0, out=tmp_path, optimiser=OPTIMISER, training=TRAINING,
        )  # fmt: skip


@pytest.mark.parametrize("step", [10, TRAINING["steps"] - 1])
def test_a_gradient_that_is_not_finite_reaches_no_saved_state(tmp_path, step):
    """The loss of such a step is finite, and the weights of the next one are not."""
    model = network()

    def loss(_, generator, share):
        still = sum(p.sum() for p in model.parameters())
        still = still - still.detach()  # 0, with a gradient
        return still.square() if share.step != step else still.square().sqrt(), {}  # whose gradient there is 0 / 0

    with pytest.raises(DivergedError, match=f"the gradient of test became nan at step {step}"):
        train(
            model, lambda *_: None, loss,
            name="test", seed=0, out=tmp_path, optimiser=OPTIMISER, training=TRAINING, save_every=0.0,
        )  # fmt: skip
    assert (read_header(tmp_path / "resume") or {"step": 0})["step"] <= step


@pytest.mark.parametrize(
    ("steps", "watched", "when"),
    [(2000, False, "at or before step 19"), (2000, True, "at step 13"), (199, False, "at step 13")],
)
def test_a_divergence_is_dated_as_exactly_as_it_was_seen(tmp_path, monkeypatch, steps, watched, when):
    """Of 2000 steps every tenth is logged, and on a GPU losses are read there alone; of 199 each is."""
    monkeypatch.setattr(loop, "_watched", lambda device: watched)
    model = network()

    def loss(_, generator, share):
        return sum(p.sum() for p in model.parameters()) * (math.nan if share.step == 13 else 1.0), {}

    with pytest.raises(DivergedError, match=f"the loss of test became nan {when}; lower"):
        train(
            model, lambda *_: None, loss,
            name="test", seed=0, out=tmp_path, optimiser=OPTIMISER, training={**TRAINING, "steps": steps},
        )  # fmt: skip


@pytest.mark.parametrize("hardware", [{"device_batch": 5}, {"workers": 3}, {"device_batch": 1, "workers": 2}])
def test_pieces_and_threads_change_nothing_but_rounding(tmp_path, hardware):
    def without_dropout(model):
        model[2].p = 0.0  # its masks are drawn for each piece
        return model

    def run(out, **options):
        model = without_dropout(seeded(network, "test", 0))

        def loss(x, generator, share):
            noise = share.normal(x.shape, generator)  # after the batch, from the same generator
            return (model(x + 0.1 * noise) - x).square().mean(), {}

        settings = {"name": "test", "seed": 0, "optimiser": OPTIMISER, "training": TRAINING}
        train(
            model, lambda g, share: share.rows(torch.randn((16, 4), generator=g)), loss, out=out, **settings, **options
        )
        return model.state_dict(), json.loads((out / "speed.json").read_text())

    (whole, _), (parts, speed) = run(tmp_path / "whole"), run(tmp_path / "parts", hardware=hardware)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-4, rtol=1e-4)
    assert speed["pieces"] == {5: 4, 1: 16, None: 1}[hardware.get("device_batch")]
    assert (tmp_path / "parts" / "costs.json").read_text() == (tmp_path / "whole" / "costs.json").read_text()
    if "device_batch" not in hardware:
        assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_batches_are_drawn_in_full_precision(tmp_path):
    """Points that are turned in bf16 land 0.004 away, with labels of where they were."""
    model, seen = seeded(network, "test", 0), set()

    def draw(generator, share):
        seen.add(torch.is_autocast_enabled("cpu"))
        return torch.randn((16, 4), generator=generator)

    def loss(x, *_):
        seen.add(("loss", torch.is_autocast_enabled("cpu")))
        return model(x).square().mean(), {}

    train(
        model, draw, loss,
        name="test", seed=0, out=tmp_path, optimiser=OPTIMISER, training={**TRAINING, "steps": 2, "precision": "bf16"},
    )  # fmt: skip
    assert seen == {False, ("loss", True)}


def test_waiting_for_data_is_measured(tmp_path):
    waited = {}
    for pause in (0.0, 0.02):
        model, out = seeded(network, "test", 0), tmp_path / str(pause)

        def draw(generator, share, pause=pause):
            time.sleep(pause)
            return torch.randn((16, 4), generator=generator)

        train(
            model, draw, lambda x, *_, model=model: (model(x).square().mean(), {}),
            name="test", seed=0, out=out, optimiser=OPTIMISER, training={**TRAINING, "steps": 12},
        )  # fmt: skip
        speed = json.loads((out / "speed.json").read_text())
        assert 0 <= speed["data_wait_share"] <= 1
        waited[pause] = speed["data_wait_share"] * speed["step_seconds"] * 12  # however slow the rest
    assert waited[0.0] < waited[0.02] and waited[0.02] > 0.9 * 12 * 0.02


def test_a_gpu_that_waits_for_its_data_is_told_with_a_remedy(capsys):
    complain_of_waiting("mar_lr", 0.05, 4)
    assert capsys.readouterr().err == ""
    complain_of_waiting("mar_lr", 0.12, 4)
    assert "the GPU waited for data for 12% of the time, where 5% is the aim: raise hardware.workers (4)" in (
        capsys.readouterr().err
    )


def test_an_error_in_a_thread_that_draws_reaches_the_loop(tmp_path):
    model = network()

    def draw(generator, share):
        raise FileNotFoundError("a shard is gone")

    with pytest.raises(FileNotFoundError, match="a shard is gone"):
        train(
            model, draw, lambda x, *_: (model(x).sum(), {}), name="test", seed=0, out=tmp_path,
            optimiser=OPTIMISER, training=TRAINING, hardware={"workers": 2},
        )  # fmt: skip


def test_compiled_blocks_are_those_of_the_lists_and_keep_their_names():
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)]), "other": nn.Linear(3, 3)})
    names = list(model.state_dict())
    compile_blocks(model)
    compiled = [name for name, part in model.named_modules() if part._compiled_call_impl is not None]
    assert compiled == ["blocks.0", "blocks.1"] and list(model.state_dict()) == names
