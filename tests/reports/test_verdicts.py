"""Verdicts on effects that are known, and their error rates by simulation."""

import numpy as np
import pytest

from core.randomness import numpy_rng
from evaluation.statistics import paired_effect
from reports.comparison import effect_of
from reports.verdicts import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Evidence, judge

N = 24


def verdicts(family, level=0.05, stream="", resamples=2000):
    def test(effects):
        return paired_effect(effects, rng=numpy_rng("verdicts", stream), resamples=resamples)

    found = judge(family, level=level, test=test)
    return {name: judgement.verdict for name, judgement in found.items()}


def noise(*names, n=N):
    return numpy_rng("verdicts", *names).normal(size=n)


def test_a_true_effect_is_reproduced_and_its_reverse_contradicted_whatever_the_direction_claimed():
    effects = 1 + noise("true")
    family = {"above": Evidence(effects, 1), "below": Evidence(-effects, -1)}
    family |= {"reversed": Evidence(-effects, 1), "turned": Evidence(effects, -1)}
    assert verdicts(family) == {
        "above": REPRODUCED, "below": REPRODUCED, "reversed": CONTRADICTED, "turned": CONTRADICTED,
    }  # fmt: skip


def test_no_effect_at_all_is_inconclusive_and_a_constant_one_is_not():
    found = verdicts({"none": Evidence(np.zeros(N), 1), "constant": Evidence(np.full(N, 0.1), 1)})
    assert found == {"none": INCONCLUSIVE, "constant": REPRODUCED}


def test_more_claims_ask_for_more():
    effects = noise("marginal")
    effects = effects - effects.mean() + 2.3 * effects.std(ddof=1) / np.sqrt(N)  # t = 2.3: p is about 0.03
    assert verdicts({"alone": Evidence(effects, 1)}) == {"alone": REPRODUCED}
    others = {f"other {i}": Evidence(noise("other", i), 1) for i in range(5)}
    assert verdicts({"alone": Evidence(effects, 1)} | others)["alone"] == INCONCLUSIVE


def test_a_claim_that_failed_asks_as_much_of_the_others_as_one_that_was_judged():
    effects = noise("marginal")
    effects = effects - effects.mean() + 2.3 * effects.std(ddof=1) / np.sqrt(N)  # t = 2.3: p is about 0.03
    family = {"alone": Evidence(effects, 1)}
    judged = {n: judge(family, level=0.05, test=effect_of, failed=n)["alone"] for n in (0, 1)}
    assert (judged[0].verdict, judged[1].verdict) == (REPRODUCED, INCONCLUSIVE)
    assert judged[1].p_holm == pytest.approx(2 * judged[0].p_holm)
    few = family | {"few": Evidence(np.ones(1), 1)}  # one object has no p
    assert judge(few, level=0.05, test=effect_of)["alone"].p_holm == judged[1].p_holm


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_a_handful_of_objects_decides_nothing(n):
    assert verdicts({"few": Evidence(np.full(n, 0.5), 1)}) == {"few": INCONCLUSIVE}


def test_seeds_that_disagree_are_not_outvoted_by_many_objects():
    effects = 0.01 * noise("objects", n=200)[:, None] + np.array([[-0.5, 0.2, 0.9]])
    assert verdicts({"one seed": Evidence(effects[:, 2], 1)}) == {"one seed": REPRODUCED}
    assert verdicts({"three": Evidence(effects, 1)}) == {"three": INCONCLUSIVE}


def test_a_claim_has_the_interval_that_its_difference_has_in_the_tables():
    effects = 0.3 + noise("same")
    judged = judge({"a": Evidence(effects, 1), "b": Evidence(-effects, 1)}, level=0.05, test=effect_of)
    table = effect_of(effects)
    assert judged["a"].effect == table
    assert (judged["b"].effect.low, judged["b"].effect.high) == (-table.high, -table.low)


@pytest.mark.parametrize("seeds", [1, 3])
def test_null_effects_are_inconclusive_at_the_stated_rate(seeds):
    # 400 families of four claims without any effect: heavy-tailed, skewed, normal, and with the zeros of equal scores.
    families, level = 400, 0.05
    false = 0
    for trial in range(families):
        rng = numpy_rng("null families", trial)
        shape, moved = (N, seeds), rng.normal(size=(4, 1, seeds)) * (seeds > 1)  # what a training moves in all objects
        family = {
            "normal": Evidence(moved[0] + rng.normal(size=shape), 1),
            "tails": Evidence(moved[1] + rng.standard_t(4, size=shape), -1),
            "skewed": Evidence(moved[2] + rng.gamma(4, size=shape) - 4, 1),
            "zeros": Evidence(moved[3] + rng.normal(size=shape) * (rng.random(shape) < 0.7), -1),
        }
        found = verdicts(family, level, str(trial), resamples=400)
        false += any(verdict != INCONCLUSIVE for verdict in found.values())
    # at most `level`, within three standard deviations of a binomial; and not so careful that it never speaks
    assert 0 < false <= families * level + 3 * np.sqrt(families * level * (1 - level))


def test_the_power_to_see_a_true_effect_and_never_its_reverse():
    found = [
        verdicts(
            {"true": Evidence(0.8 + numpy_rng("power", trial).normal(size=N), 1)}, stream=str(trial), resamples=400
        )
        for trial in range(100)
    ]
    named = [verdict["true"] for verdict in found]
    assert named.count(REPRODUCED) > 80  # a t-test of this effect has a power of 0.96
    assert named.count(CONTRADICTED) == 0
