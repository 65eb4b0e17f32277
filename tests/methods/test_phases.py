"""Training in phases: each step draws from the objects of its phase, all of them, and no others."""

from pathlib import Path

import pytest
import torch

from core.errors import UserError
from data.store import Split
from methods.contract import PreparedData
from methods.dit.method import training_of
from methods.mar3d import examples, vae_training
from methods.registry import load_methods, resolve
from methods.specs import SCALES
from methods.training.draws import WHOLE, Share
from methods.training.phases import Phases, phases_of, stretched

PHASES = ["broad", "broad fine", "fine", "", "broad"]


class Marked(Split):
    """Stands for a split of objects with these phases."""

    def __init__(self, phases):
        self.folder, self.objects = Path("prepared"), list(range(len(phases)))
        self.about = [{"phases": text} if text else {} for text in phases]


def a_split(phases=PHASES):
    return Marked(phases)


def test_steps_are_in_the_phase_that_they_fall_into():
    phases = Phases(a_split(), {"broad": 10, "fine": 5})
    assert [phases.objects(step).tolist() for step in (0, 9, 10, 14, 99)] == [[0, 1, 3, 4]] * 2 + [[1, 2, 3]] * 3


def test_without_phases_there_is_one_of_all_objects():
    assert Phases(a_split(), {}).objects(7).tolist() == [0, 1, 2, 3, 4]


def test_a_draw_is_of_all_members_alike():
    drawn = Phases(a_split(), {"broad": 10, "fine": 5}).draw(12, 6000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=5)
    assert counts[[0, 4]].tolist() == [0, 0]
    assert (counts[[1, 2, 3]] - 2000).abs().max() < 5 * (6000 * 2 / 9) ** 0.5  # five standard deviations


def test_one_phase_draws_what_a_training_without_phases_draws():
    one = Phases(a_split([""] * 7), {"broad": 10}).draw(3, 50, torch.Generator().manual_seed(1))
    none = torch.randint(0, 7, (50,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(one, none)


def test_a_phase_that_no_object_is_for_is_one_sentence():
    with pytest.raises(UserError, match="no object of prepared is for the phase 'fin'"):
        Phases(a_split(["broad", "fine"]), {"broad": 10, "fin": 5})


def test_phases_that_do_not_fill_the_training_are_one_sentence():
    training = {"steps": 15, "batch": 4, "phases": {"broad": 10, "fine": 5}}
    assert phases_of(a_split(), training).ends == [10, 15]
    assert phases_of(a_split(), {"steps": 15, "phases": None}).ends == phases_of(a_split(), {"steps": 15}).ends == []
    with pytest.raises(UserError, match=r"training.phases are 15 steps in all and training.steps is 16"):
        phases_of(a_split(), training | {"steps": 16})


def test_the_epochs_that_result_are_told(capsys):
    split = a_split(["broad", "broad fine", "broad", ""])
    phases_of(split, {"steps": 15, "batch": 4, "phases": {"broad": 10, "fine": 5}})
    told = "phases: broad 10.0 epochs of 4 objects, then fine 10.0 epochs of 2 objects"
    assert capsys.readouterr().err.strip() == told
    phases_of(split, {"steps": 15, "batch": 4, "phases": None})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("times", [1.0, 0.1, 1.53, 2.3])
def test_stretched_phases_fill_the_steps_in_the_same_proportion(times):
    steps = round(1812500 * times)
    phases = stretched({"broad": 1625000, "fine": 187500}, steps)
    assert sum(phases.values()) == steps
    assert phases["broad"] == pytest.approx(1625000 * times, abs=1)


@pytest.mark.parametrize("scale", SCALES)
def test_configured_phases_fill_their_steps(scale):
    for spec in load_methods().values():
        for name in spec.variants:
            plan = resolve(spec.name, name, scale)
            sections = (s.params.get(key) for s in plan.stages for key in s.params)
            trainings = [s["training"] for s in sections if isinstance(s, dict) and "training" in s]
            if spec.name == "dit":
                trainings += [training_of(plan.params, s.name) for s in plan.stages if s.owner == "dit"]
            for training in trainings:
                phases = training["phases"]
                assert (phases is None) == (scale != "paper" or "volume" in training)  # the VAE's has no phases
                assert phases is None or sum(phases.values()) == training["steps"]


def test_the_papers_phases_are_its_epochs():
    objects, epochs = {"broad": 260_000, "fine": 60_000}, {"broad": 200, "fine": 100}
    params = resolve("mar3d", "full", "paper").params
    for stage, batch in (("mar_lr", 32), ("mar_hr", 8)):
        training = params[stage]["training"]
        assert training["batch"] == batch
        assert training["phases"] == {name: objects[name] * epochs[name] // batch for name in objects}


class Nothing:
    """Stands for what is drawn beside the objects."""

    def __init__(self, *_, **__):
        pass

    def draw(self, bank, objects, views, generator, share):
        return objects

    def rows(self, objects, views):
        return views


def drawn(prepared, phases, monkeypatch, share):
    """The objects and views of one step as a generator's training draws them."""
    for name in ("LatentPool", "Images"):
        monkeypatch.setattr(examples, name, Nothing)
    for name in ("surfaces_of", "make_again"):
        monkeypatch.setattr(examples, name, lambda *_, **__: None)
    training = {"steps": 15, "batch": 64, "precision": "fp32", "phases": phases}
    source = examples.Examples(
        PreparedData(prepared, "procedural", "smoke"),
        Path("nowhere"),
        "lr",
        training=training,
        rotated_share=0.5,
        augmentation=None,
        device=torch.device("cpu"),
        hardware={"memory_gb": 1, "workers": 0},
    )
    source.condition_on(torch.nn.Identity())
    batch = source.draw(torch.Generator().manual_seed(5), share)
    return batch.latents, batch.images


def test_without_phases_a_step_draws_what_it_always_drew(prepared, monkeypatch):
    split, generator = Split(prepared, "train"), torch.Generator().manual_seed(5)
    objects = torch.randint(0, len(split), (64,), generator=generator)
    views = vae_training.draw_views(64, len(split.upright_views), split.n_views, 0.5, generator)
    for phases in (None, {"broad": 10, "fine": 5}):  # these objects name no phase
        for step in (0, 12):
            found = drawn(prepared, phases, monkeypatch, Share(step=step))
            assert torch.equal(found[0], objects) and torch.equal(found[1], views)
    assert torch.equal(drawn(prepared, None, monkeypatch, WHOLE)[0], objects)


def test_a_step_draws_from_its_phase_and_processes_share_it(prepared, monkeypatch):
    phases = {"broad": range(8), "fine": range(2, 4)}
    monkeypatch.setattr(Split, "of_phase", lambda self, name: list(phases[name]))
    steps = {"broad": 10, "fine": 5}
    early, late = (drawn(prepared, steps, monkeypatch, Share(step=step))[0] for step in (9, 10))
    assert set(early.tolist()) == set(phases["broad"]) and set(late.tolist()) == set(phases["fine"])
    halves = [drawn(prepared, steps, monkeypatch, Share(index, 2, 10))[0] for index in (0, 1)]
    assert torch.equal(torch.cat(halves), late)


def test_the_vae_draws_from_the_phase_of_its_step(prepared, monkeypatch):
    params = resolve("mar3d", "full", "smoke").params
    training = params["vae"]["training"] | {"steps": 4, "phases": {"broad": 3, "fine": 1}}
    params = {**params, "vae": {**params["vae"], "training": training}}
    monkeypatch.setattr(Split, "of_phase", lambda self, name: {"broad": [0, 1], "fine": [7]}[name])
    seen = []

    class Pool:
        def batch(self, objects, views, **_):
            seen.append(set(objects.tolist()))

    def steps(model, draw, loss, *, training, **_):
        for step in range(training["steps"]):
            draw(torch.Generator().manual_seed(step), Share(step=step))

    monkeypatch.setattr(vae_training, "train", steps)
    vae_training.train_vae(
        params, Split(prepared, "train"), Pool(), {"lr": 0.5, "hr": 0.5}, out=Path("nowhere"), seed=0,
        device=torch.device("cpu"),
    )  # fmt: skip
    assert seen == [{0, 1}] * 3 + [{7}]
