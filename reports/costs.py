"""What a setting cost, from the manifests of its run: parameters and training FLOPs of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import read_json
from reports.settings import Setting

WITHOUT = ("vae",)
"""Stages that all compared settings share, and that say nothing of the generator."""
KEYS = ("parameters", "training_flops")


def costs(root: Path, setting: Setting) -> dict[str, float]:
    """Sums over the generator's stages of a setting's first seed; a number that a manifest does not have is NaN.

    root: `runs/{dataset}/{scale}`. Empty where the run's manifests are not there.
    """
    runs = sorted((root / "generated" / setting.method / setting.variant).glob("seed*/manifest.json"))
    if not runs:
        return {}
    folders = stage_folders(root, read_json(runs[0]))
    paths = [folder / "manifest.json" for stage, folder in folders.items() if stage not in WITHOUT]
    if not paths or not all(path.exists() for path in paths):
        return {}
    stages = [read_json(path) for path in paths]
    return {key: float(sum(stage.get(key, float("nan")) for stage in stages)) for key in KEYS}


def stage_folders(root: Path, run: Mapping[str, Any]) -> dict[str, Path]:
    """Where the stages of a generation lie, by name: with the dataset that they were trained on.

    root: `runs/{dataset}/{scale}` of the generation. run: its manifest.
    """
    home = root.parent.parent / run.get("trained_on", root.parent.name) / root.name / "stages"
    return {stage: home / folder / f"seed{run['seed']}" for stage, folder in run["stages"].items()}
