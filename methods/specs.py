"""What a method's `config.yaml` declares, and what it resolves to: the types that all of the room shares. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError, known

SCALES = ("smoke", "cpu", "gpu", "paper")
HARDWARE = "hardware"
"""The section of params that says how work is done; no key counts it, and every stage may read it."""
PAPER = "paper"
"""The scale whose batches are the paper's."""
PAPER_GPUS = "paper_gpus"
"""The param that multiplies every batch there, and divides its steps and phases; it stands in no resolved params."""
EXTERNAL = "external"
"""The kind of methods whose meshes are made elsewhere, and the folder whose code and defaults they share."""


@dataclass(frozen=True)
class StageDeclaration:
    """One entry of `stages:`; `borrowed_from` names the method that trains it, if another does.

    `reads`: sections of params, or single keys of them as `section.key`.
    `needs`: by name, each with the key of params (`section.key`) that must be true for it to be needed, or None.
    `on_request`: only variants that list the stage use it.
    """

    name: str
    reads: tuple[str, ...]
    needs: Mapping[str, str | None]
    borrowed_from: str | None
    on_request: bool = False


@dataclass(frozen=True)
class VariantSpec:
    """One entry of `variants:`; `stages` is None where the variant uses all of them but those `on_request`."""

    name: str
    label: str
    params: Mapping[str, Any]
    scales: Mapping[str, Mapping[str, Any]]
    stages: tuple[str, ...] | None
    published: str | None


@dataclass(frozen=True)
class MethodSpec:
    """A validated `config.yaml`; `stages` in the order in which they are trained.

    `params_from`: the sections of params that are another method's, whatever they are at a scale.
    """

    name: str
    label: str
    summary: str
    kind: str
    entry: str
    reads_ground_truth: bool
    stochastic: bool
    seeded_training: bool
    references: tuple[str, ...]
    links: Mapping[str, str]
    stages: Mapping[str, StageDeclaration]
    params: Mapping[str, Any]
    params_from: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, VariantSpec]
    resources: Mapping[str, int]
    folder: Path

    @property
    def code(self) -> str:
        """The folder under `methods/` that holds the class of `entry`: its own, or `external`."""
        return EXTERNAL if self.kind == EXTERNAL else self.name

    @property
    def differs_by_seed(self) -> bool:
        """Whether another seed gives other meshes, by its weights or by what is drawn at generation."""
        return self.stochastic or self.seeded_training

    @property
    def first_variant(self) -> str:
        """The method itself: `full`, or else the first variant listed."""
        return "full" if "full" in self.variants else next(iter(self.variants))


@dataclass(frozen=True)
class StageSpec:
    """One trained part of a plan. `params` is the subset that it reads; `needs` are names in the same plan."""

    owner: str
    name: str
    key: str
    needs: tuple[str, ...]
    params: Mapping[str, Any]

    @property
    def folder_name(self) -> str:
        """`mar3d.vae-0123456789`: the folder under `stages/`."""
        return f"{self.owner}.{self.name}-{self.key}"


@dataclass(frozen=True)
class Plan:
    """A method at one variant and scale: its params and its stages, in the order in which they are trained."""

    method: MethodSpec
    variant: VariantSpec
    scale: str
    params: Mapping[str, Any]
    stages: tuple[StageSpec, ...]

    @property
    def setting(self) -> str:
        """`mar3d/full`, see `parse_setting`."""
        return f"{self.method.name}/{self.variant.name}"

    def stage(self, name: str) -> StageSpec:
        """The stage of this name; UserError if the plan has none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise known(f"stage of {self.setting}", name, (s.name for s in self.stages))


def parse_setting(name: str) -> tuple[str, str]:
    """Method and variant of a setting, as `mar3d/full`; UserError for what is not of this form."""
    method, _, variant = name.partition("/")
    if not (method and variant):
        raise UserError(f"{name!r} is not method/variant, for example mar3d/full")
    return method, variant
