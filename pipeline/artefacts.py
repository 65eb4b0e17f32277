"""What is made of rows: every table and figure, its files, and what its command is told.

To add one, NAME:

1. `NAME` in `config/config.yaml`, and in its schema as another `artefact`: the settings and controls (method/variant)
   whose rows it needs. A scale's file may name others. `of` names artefacts whose rows it needs as well, `rows` the row
   files of other runs, `protocol` another one than the run's.
2. An entry in `ARTEFACTS` below: its files, the first of which is `--out`.
3. A command `python -m reports NAME` that writes them from
   `--protocol P --settings … --controls … --rows … --out …` and the options of its entry.

The rule, its inputs, what makes it run again, its place in `reports/all` and in Snakemake's report follow from these.
Rows are inputs, so meshes and weights of every setting lie under `--root` when the command runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FOLDER = "reports"
EVERYTHING = f"{FOLDER}/all"


@dataclass(frozen=True)
class Artefact:
    """A table or a figure.

    files: what it writes, relative to `reports/`. reads: YAML files there that decide what it shows. options: beyond
    those that every command has; `held_out` (the category without training objects), `prepared` (the folder of
    prepared shards), `root` (the folder of the dataset and scale under runs/), `backend` (who draws meshes). code:
    sources that decide it, beyond the reports' own. mixed: its rows may be of several protocols, since each of its
    lines says which.
    """

    name: str
    files: tuple[str, ...]
    reads: tuple[str, ...] = ("published.yaml",)
    options: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    mixed: bool = False

    @property
    def paths(self) -> list[str]:
        """Its files."""
        return [f"{FOLDER}/{file}" for file in self.files]


STUDY = ("methods/vae_study/tokens.py",)
PICTURES = ("data/store.py", "data/views.py", "data/quantise.py", "data/render.py", "data/sample.py")
PICTURES += ("evaluation/load.py", "evaluation/placement.py", *STUDY)
PICTURES += ("evaluation/backends.py", "evaluation/accelerated.py")
OF_MESHES = ("prepared", "root", "backend")

ARTEFACTS = {
    artefact.name: artefact
    for artefact in (
        Artefact("table1", ("table1.csv", "table1.md")),
        Artefact("table2", ("table2.csv", "table2.md", "table2_by_category.csv"), options=("held_out",)),
        Artefact("table_s1", ("table_s1.csv", "table_s1.md"), reads=("table_s1.yaml",), options=("root",)),
        Artefact("schedules", ("schedules.csv", "schedules.md"), reads=("schedules.yaml",)),
        Artefact("figure3", ("figure3.pdf", "figure3.png", "figure3.csv"), (), OF_MESHES, PICTURES),
        Artefact("figure4", ("figure4.pdf", "figure4.png", "figure4.csv"), (), ("root",), STUDY),
        Artefact("figure5", ("figure5.pdf", "figure5.png", "figure5.csv"), ("figure5.yaml",), OF_MESHES, PICTURES),
        Artefact("figure6", ("figure6.pdf", "figure6.png", "figure6.csv"), (), OF_MESHES, PICTURES),
        Artefact("claims", ("claims.csv", "claims.md"), reads=("published.yaml", "claims.yaml"), mixed=True),
    )
}


def protocol_of(config: Mapping[str, Any], name: str) -> str:
    """The protocol of an artefact's own settings and controls: what it names, or else that of the run."""
    return config[name].get("protocol", config["evaluation"]["protocol"])


def asked_for(targets: set[str]) -> list[Artefact]:
    """The artefacts that the targets of a run name: all for `reports/all`, Table 2 where they name none."""
    if EVERYTHING in targets:
        return list(ARTEFACTS.values())
    named = [artefact for artefact in ARTEFACTS.values() if targets & {artefact.name, *artefact.paths}]
    return named or [ARTEFACTS["table2"]]
