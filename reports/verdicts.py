"""From paired differences to verdicts. Pure NumPy: nothing here knows what is claimed.

A verdict is about direction. Each claim is a two-sided test of the hypothesis that its effect is 0, by the paired
bootstrap over objects (and seeds, where there are several); the p-values of all claims of a run are adjusted together
(Holm), so that the chance of any false verdict, where no effect is there, is at most `level`.

- reproduced: significant, in the direction claimed.
- contradicted: significant, in the other direction.
- inconclusive: not significant. This is not evidence of no effect; the interval says what effects are still possible.
- not run: a setting has no scores.

The family are the claims whose settings were run, also those of which one failed on every object: what came out decides
nothing about what is asked of the others.

The interval is that of one claim alone (95 %, not widened for the family): it leaves out 0 where the claim's own p is
below 0.05.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.statistics import Effect, holm

REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_RUN = VERDICTS = ("reproduced", "contradicted", "inconclusive", "not run")


@dataclass(frozen=True)
class Evidence:
    """Effects of one claim, (n_objects,) or (n_objects, n_seeds), and the claimed direction: 1 is above 0, -1 below."""

    effects: np.ndarray
    sign: int


@dataclass(frozen=True)
class Judgement:
    """What the evidence says: mean effect with interval and p-value (NaN for fewer than two objects), and a word."""

    effect: Effect
    p_holm: float
    verdict: str


def judge(
    family: Mapping[str, Evidence], *, level: float, test: Callable[[np.ndarray], Effect], failed: int = 0
) -> dict[str, Judgement]:
    """The judgements of a family of claims (name -> evidence).

    level: family-wise error. test: of paired differences, `reports.comparison.effect_of`. failed: how many further
    claims of the family have no evidence; they, and those of too few objects, count as tests with p = 1.
    """
    effects = {name: test(evidence.effects) for name, evidence in family.items()}
    p = np.array([effects[name].p for name in family] + [1.0] * failed)
    adjusted = holm(np.where(np.isnan(p), 1.0, p))
    found = {}
    for i, (name, evidence) in enumerate(family.items()):
        p_holm = float("nan") if np.isnan(p[i]) else float(adjusted[i])
        verdict = INCONCLUSIVE
        if p_holm <= level:
            verdict = REPRODUCED if effects[name].mean * evidence.sign > 0 else CONTRADICTED
        found[name] = Judgement(effects[name], p_holm, verdict)
    return found
