"""What a setting cost, from the manifests of its run: parameters and training FLOPs of its stages."""

from __future__ import annotations

from pathlib import Path

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
    run = read_json(runs[0])
    names = [folder for stage, folder in run["stages"].items() if stage not in WITHOUT]
    paths = [root / "stages" / name / f"seed{run['seed']}" / "manifest.json" for name in names]
    if not paths or not all(path.exists() for path in paths):
        return {}
    stages = [read_json(path) for path in paths]
    return {key: float(sum(stage.get(key, float("nan")) for stage in stages)) for key in KEYS}
