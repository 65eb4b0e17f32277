"""What the jobs of each rule ask of a machine, at each scale: memory and time, in Snakemake's standard units.

On one machine nothing is limited by them. Where a scheduler reads them (profiles/slurm, profiles/kubernetes), a profile
changes one with `set-resources`. They are upper bounds with room, not measurements: a fit has half as long again as
docs/plan.md foresees for one H100. A job that died, of whatever, asks for twice the memory when it is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.errors import UserError

# rule -> scale -> (MB, minutes)
NEEDS = {
    "prepare": {"smoke": (2000, 15), "cpu": (3000, 60), "gpu": (4000, 120), "paper": (6000, 360)},
    "fit": {"smoke": (3000, 30), "cpu": (6000, 240), "gpu": (64000, 240), "paper": (192000, 14 * 24 * 60)},
    "generate": {"smoke": (3000, 30), "cpu": (6000, 120), "gpu": (32000, 120), "paper": (64000, 240)},
    "score": {"smoke": (3000, 15), "cpu": (4000, 60), "gpu": (8000, 120), "paper": (8000, 120)},
}


ATTEMPTS = 2
"""How often a fit or a generation is started until its death counts as its result."""


def attempt(wildcards: Any, attempt: int) -> int:
    """Which attempt this is, for `resources:`, the only place where Snakemake says it."""
    return attempt


def memory(rule: str, scale: str) -> Callable[..., int]:
    """`mem_mb` of a rule, for its `resources:`; grows with the attempt."""
    mb, _ = NEEDS[rule][scale]

    def mem_mb(wildcards: Any, attempt: int) -> int:
        return mb * attempt

    return mem_mb


def minutes(rule: str, scale: str) -> int:
    """`runtime` of a rule. A fit or generation that is cut off resumes when it is tried again."""
    return NEEDS[rule][scale][1]


def one_node(wildcards: Any, resources: Any) -> int:
    """`nodes` of a rule, for its `params:`. Raises UserError for more than one: its command is started on one alone."""
    if resources.nodes > 1:
        raise UserError(
            f"the profile asks for {resources.nodes} nodes for a fit, and Snakemake starts it on one of them: keep"
            " `nodes: 1` (several cards are `gpu`), or train over nodes by srun (docs/training.md)"
        )
    return resources.nodes
