"""What a setting cost, from its run's manifests: parameters and training FLOPs of its stages, FLOPs of sampling."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from core.files import read_json
from reports.settings import Setting

WITHOUT = ("vae",)
"""Stages that all compared settings share, and that say nothing of the generator."""
KEYS = ("parameters", "training_flops")
"""Of each stage's manifest."""


def costs(root: Path, setting: Setting) -> dict[str, float]:
    """Of a setting's first seed: sums over the generator's stages of `KEYS` and of `all_training_flops`, which have the
    optimiser's products too; and `sampling_flops` of one object.

    Sampling is all that comes before the VAE decodes. A number that a manifest does not have is NaN.

    root: `runs/{dataset}/{scale}`. Empty where the run's manifests are not there.
    """
    run, stages = _manifests(root, setting, WITHOUT)
    if not stages:
        return {}
    sums = {key: float(sum(stage.get(key, float("nan")) for stage in stages)) for key in KEYS}
    sums["all_training_flops"] = sum(_all_training_flops(stage) for stage in stages)
    return sums | {"sampling_flops": float((run.get("flops") or {}).get("sample", float("nan")))}


def parameters(root: Path, setting: Setting) -> float:
    """Of all stages of a setting, the VAE too; NaN where the run's manifests are not there. root: as in `costs`."""
    _, stages = _manifests(root, setting)
    return float(sum(stage["parameters"] for stage in stages)) if stages else float("nan")


def _manifests(
    root: Path, setting: Setting, without: Collection[str] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The manifest of a setting's first generation, and those of its stages: none if one is not there."""
    runs = sorted((root / "generated" / setting.method / setting.variant).glob("seed*/manifest.json"))
    if not runs:
        return {}, []
    run = read_json(runs[0])
    folders = stage_folders(root, run)
    paths = [folder / "manifest.json" for stage, folder in folders.items() if stage not in without]
    return run, [read_json(path) for path in paths] if all(path.exists() for path in paths) else []


def _all_training_flops(stage: Mapping[str, Any]) -> float:
    """Of forward and backward passes, and of the optimiser's own products."""
    nan = float("nan")
    passes, update = stage.get("step_flops", nan), stage.get("optimiser_step_flops", nan)
    return stage.get("training_flops", nan) * (passes + update) / passes


def stage_folders(root: Path, run: Mapping[str, Any]) -> dict[str, Path]:
    """Where the stages of a generation lie, by name: with the dataset that they were trained on.

    root: `runs/{dataset}/{scale}` of the generation. run: its manifest.
    """
    home = root.parent.parent / run.get("trained_on", root.parent.name) / root.name / "stages"
    return {stage: home / folder / f"seed{run['seed']}" for stage, folder in run["stages"].items()}
