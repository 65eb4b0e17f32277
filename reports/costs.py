"""What a setting cost, from its run's manifests: parameters and training FLOPs of its stages, FLOPs of sampling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import read_json
from reports.settings import Setting

WITHOUT = ("vae",)
"""Stages that all compared settings share, and that say nothing of the generator."""
KEYS = ("parameters", "training_flops")
"""Of each stage's manifest."""


def costs(root: Path, setting: Setting) -> dict[str, float]:
    """Of a setting's first seed: sums of `KEYS` over the generator's stages, and `sampling_flops` of one object.

    Sampling is all that comes before the VAE decodes. A number that a manifest does not have is NaN.

    root: `runs/{dataset}/{scale}`. Empty where the run's manifests are not there.
    """
    runs = sorted((root / "generated" / setting.method / setting.variant).glob("seed*/manifest.json"))
    if not runs:
        return {}
    run = read_json(runs[0])
    folders = stage_folders(root, run)
    paths = [folder / "manifest.json" for stage, folder in folders.items() if stage not in WITHOUT]
    if not paths or not all(path.exists() for path in paths):
        return {}
    stages = [read_json(path) for path in paths]
    sums = {key: float(sum(stage.get(key, float("nan")) for stage in stages)) for key in KEYS}
    return sums | {"sampling_flops": float((run.get("flops") or {}).get("sample", float("nan")))}


def stage_folders(root: Path, run: Mapping[str, Any]) -> dict[str, Path]:
    """Where the stages of a generation lie, by name: with the dataset that they were trained on.

    root: `runs/{dataset}/{scale}` of the generation. run: its manifest.
    """
    home = root.parent.parent / run.get("trained_on", root.parent.name) / root.name / "stages"
    return {stage: home / folder / f"seed{run['seed']}" for stage, folder in run["stages"].items()}
