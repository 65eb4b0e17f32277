"""What a person may choose, handed to every benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """quick: tiny sizes, to see that everything runs. device: `cpu` or `cuda`. scale: of the networks.

    meshes: a folder of meshes to prepare in place of procedural objects. finished: a run (`runs/DATASET/SCALE`) whose
    objects and weights are used beside made-up ones. peers: a folder with clones of other projects.
    """

    quick: bool = False
    device: str = "cpu"
    scale: str = "cpu"
    meshes: Path | None = None
    finished: Path | None = None
    peers: Path | None = None
