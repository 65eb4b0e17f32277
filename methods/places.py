"""Where stages and generated meshes live below `runs/`. No torch."""

from __future__ import annotations

from pathlib import Path

from methods.specs import StageSpec


def stage_folder(runs: str | Path, dataset: str, scale: str, stage: StageSpec, seed: int) -> Path:
    """Where a stage's weights, losses and manifest live; shared by all variants that agree on it."""
    return Path(runs) / dataset / scale / "stages" / stage.folder_name / f"seed{seed}"


def generated_folder(runs: str | Path, dataset: str, scale: str, method: str, variant: str, seed: int) -> Path:
    """Where a variant's meshes and `generate.jsonl` live."""
    return Path(runs) / dataset / scale / "generated" / method / variant / f"seed{seed}"
