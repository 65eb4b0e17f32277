"""Training in phases: each step draws from the objects of its phase, all of them, and no others."""

from pathlib import Path

import pytest
import torch

from core.errors import UserError
from data.store import Split
from methods.training.phases import Phases

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
