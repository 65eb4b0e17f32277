"""Interleaving, quartiles, ratios and stages, against a clock that is made up."""

import types

import pytest

from benchmarks.measure import LEAST_ROUNDS, Spread, interleaved, ratios, spread, stages


class Clock:
    """Seconds that pass only where something takes them."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def taking(self, name, *seconds):
        left = list(seconds)

        def call():
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


def test_calls_take_turns_and_the_warm_up_is_not_kept():
    clock = Clock()
    taken = interleaved(
        {"a": clock.taking("a", 9.0, 1.0), "b": clock.taking("b", 9.0, 2.0)}, rounds=3, warm_up=1, clock=clock
    )
    assert clock.order == ["a", "b"] * 4
    assert taken == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_a_time_limit_ends_the_rounds_but_not_before_there_are_quartiles():
    clock = Clock()
    assert len(interleaved({"a": clock.taking("a", 10.0)}, rounds=50, seconds=5, clock=clock)["a"]) == LEAST_ROUNDS
    clock = Clock()
    assert len(interleaved({"a": clock.taking("a", 1.0)}, rounds=50, seconds=5, clock=clock)["a"]) == 6


def test_waiting_for_a_device_belongs_to_the_call():
    clock = Clock()
    taken = interleaved({"a": clock.taking("a", 1.0)}, rounds=3, wait=clock.taking("wait", 0.5), clock=clock)
    assert taken["a"] == [1.5] * 3


def test_quartiles_of_five_numbers_are_the_second_and_the_fourth():
    found = spread([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (found.low, found.median, found.high, found.n) == (2.0, 3.0, 4.0, 5)
    assert spread([7.0]).low == spread([7.0]).high == 7.0
    assert spread([3.0, 1.0, 8.0]) == Spread(3.0, 1.0, 8.0, 3)  # too few for quartiles
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_ratios_are_taken_within_rounds():
    # A machine that becomes ten times slower leaves each round's ratio at 2; a ratio of medians would not be 2.
    found = ratios([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError):
        ratios([1.0, 2.0], [1.0])


def test_stages_are_timed_and_put_back():
    module = types.SimpleNamespace(work=lambda x: 2 * x)
    before = module.work
    with stages((module, "work")) as spent:
        assert module.work(3) == 6
    assert module.work is before
    assert spent["work"] > 0
    with pytest.raises(ZeroDivisionError), stages((module, "work")):
        raise ZeroDivisionError
    assert module.work is before
