"""Seconds and joules over all starts of a job, however each of them ended."""

import itertools
import time

import pytest

from core.files import read_json, write_json
from methods.spent import KEY, Spent


@pytest.fixture
def progress(tmp_path):
    write_json(tmp_path / "progress.json", {"starts": 2, KEY: [[40.0, 100.0]]})
    return tmp_path / "progress.json"


def test_a_start_adds_to_those_before_it_also_if_it_raises(progress):
    with pytest.raises(KeyboardInterrupt), Spent(progress).noted(lambda: 20.0):
        time.sleep(0.05)
        raise KeyboardInterrupt
    last = Spent(progress)
    with last.noted(lambda: 3.25):
        time.sleep(0.05)
    record = last.record()
    assert 40.1 <= record["seconds"] < 60 and record["energy_joules"] == 123.2
    assert read_json(progress)["starts"] == 2


def test_what_a_start_has_taken_is_noted_while_it_works(progress):
    """A kill runs no `finally`."""
    so_far = itertools.count(1.0)
    with Spent(progress).noted(lambda: next(so_far), every=0.01):
        end = time.monotonic() + 10
        while len(read_json(progress)[KEY]) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        seconds, joules = read_json(progress)[KEY][1]
        assert 0.01 <= seconds < 11 and joules >= 1.0


def test_joules_that_are_not_known_of_one_start_are_not_known_of_all(progress):
    spent = Spent(progress)
    assert spent.record() == {"seconds": 40.0, "energy_joules": 100.0}  # this start has not worked
    with spent.noted(lambda: None):
        pass
    assert spent.record()["energy_joules"] is None


def test_a_process_that_does_not_write_notes_nothing(tmp_path):
    spent = Spent(None)
    with spent.noted(lambda: pytest.fail("asked")):
        pass
    assert spent.record() == {"seconds": 0.0, "energy_joules": None}
