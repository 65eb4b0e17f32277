"""A finished run of Table 2, whose weights and objects a benchmark may use: `--finished runs/DATASET/SCALE`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError
from core.files import read_json

FULL, CEILING = "mar3d/full/seed0", "vae_ceiling/full/seed0"
"""Whose stages: of the whole cascade, and of the VAE that it shares."""
NOT_RUN = "not run: --finished names a finished run, such as runs/meshes/cpu"


@dataclass(frozen=True)
class Finished:
    """stages: folders of a setting's, by name. prepared: its data."""

    scale: str
    stages: Mapping[str, Path]
    prepared: Path


def finished(folder: Path, setting: str = FULL) -> Finished:
    """Read what the run left of a setting. Raises UserError where it was not generated."""
    record = folder / "generated" / setting / "manifest.json"
    prepared = sorted(folder.glob("prepared-*/manifest.json"))
    if not record.exists() or not prepared:
        raise UserError(f"{folder} holds no finished {setting}: give --finished runs/DATASET/SCALE of a whole run")
    run = read_json(record)
    stages = {name: folder / "stages" / stage / f"seed{run['seed']}" for name, stage in run["stages"].items()}
    newest = max(prepared, key=lambda path: path.stat().st_mtime)
    return Finished(run["scale"], stages, newest.parent)
