"""Training in phases: a broad set of objects first, then a better part of it, as MAR-3D's 200 and 100 epochs.

Which objects are for which phase stands in the prepared data (docs/datasets.md); how long each takes is a parameter of
the stage: {phase: steps}, in order, `training.phases`. An object that names no phase is for all: where none does, a
training in phases draws what one without them draws.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from core.errors import UserError
from data.store import Split
from methods.training import processes


class Phases:
    """The objects that each step of a training may draw from.

    steps: of each phase, in order; empty for one phase of all objects. Raises UserError for a phase that no object is
    for.
    """

    def __init__(self, split: Split, steps: Mapping[str, int]) -> None:
        self.ends: list[int] = []
        self.members: list[Tensor] = []
        for name, count in steps.items():
            members = split.of_phase(name)
            if not members:
                raise UserError(
                    f"no object of {split.folder} is for the phase {name!r}: see `phase` in docs/datasets.md"
                )
            self.ends.append((self.ends[-1] if self.ends else 0) + count)
            self.members.append(torch.tensor(members))
        if not steps:
            self.members.append(torch.arange(len(split)))

    def objects(self, step: int) -> Tensor:
        """Indices (n,) int64 of the objects of the phase that `step` (from 0) is in, or of the last."""
        phase = sum(step >= end for end in self.ends[:-1])
        return self.members[phase]

    def draw(self, step: int, count: int, generator: torch.Generator) -> Tensor:
        """`count` of them, (count,) int64, each alike probable, with repetition."""
        members = self.objects(step)
        return members[torch.randint(0, len(members), (count,), generator=generator)]


def phases_of(split: Split, training: Mapping[str, Any]) -> Phases:
    """The phases of a stage's `training` section: its `phases`, if it has some, and says their epochs. UserError."""
    phases, steps = training.get("phases") or {}, training["steps"]
    total = sum(phases.values())
    if phases and total != steps:
        raise UserError(f"training.phases are {total} steps in all and training.steps is {steps}: make them equal")
    found = Phases(split, phases)
    if phases and processes.first():
        print(f"phases: {epochs(found, phases, training['batch'])}", file=sys.stderr, flush=True)
    return found


def epochs(phases: Phases, steps: Mapping[str, int], batch: int) -> str:
    """How often each phase sees its objects, in words.

    Steps stay as configured, and how many objects there are depends on licences, quarantine and what is held out.
    """
    parts = zip(steps.items(), phases.members, strict=True)
    return ", then ".join(
        f"{name} {count * batch / len(members):,.1f} epochs of {len(members):,} objects"
        for (name, count), members in parts
    )


def stretched(phases: Mapping[str, int], steps: int) -> dict[str, int]:
    """The same phases, each with the same part (rounded) of another number of steps."""
    total, end, result = sum(phases.values()), 0, {}
    for name, count in phases.items():
        start = round(end * steps / total)
        end += count
        result[name] = round(end * steps / total) - start
    return result
