"""What the rules of Figures 3 to 6 name: the rows that each needs, its files and its command line.

Which settings and controls (method/variant) a figure needs stands in the configuration under its name. Rows are
inputs, so the meshes that they are of lie under the root when the command runs.
"""

from __future__ import annotations

from core.errors import UserError
from core.identity import source_hash
from methods import registry
from pipeline.dag import READER, Dag

FILES = {
    "figure3": ("figure3.pdf", "figure3.png"),
    "figure4": ("figure4.pdf", "figure4.png", "figure4.csv"),
    "figure5": ("figure5.pdf", "figure5.png"),
    "figure6": ("figure6.pdf", "figure6.png"),
}
CODE = (
    *READER,
    "data/render.py",
    "data/sample.py",
    "evaluation/load.py",
    "evaluation/placement.py",
    "methods/vae_study/tokens.py",
)
DATA = ("reports/figure5.yaml",)


class Figures:
    """The figures of one DAG. Raises UserError for a setting that no method has."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        for name in FILES:
            for run in self.runs(name):
                method, _, variant = run.partition("/")
                if not variant:
                    raise UserError(f"{name}: {run!r} is not method/variant, for example mar3d/full")
                registry.resolve(method, variant, dag.scale)

    def runs(self, name: str) -> list[str]:
        """The settings, then the controls of a figure."""
        declared = self.dag.config[name]
        return [*declared.get("settings", ()), *declared.get("controls", ())]

    def rows(self, name: str) -> list[str]:
        """The rows that a figure needs, of every seed; what has no randomness is run with the first seed only."""
        folder, paths = f"{self.dag.root}/rows/{self.dag.config['evaluation']['protocol']}", []
        for run in self.runs(name):
            stochastic = registry.get_method(run.split("/")[0]).stochastic
            seeds = self.dag.config["seeds"][: None if stochastic else 1]
            paths += [f"{folder}/{run}/seed{seed}.parquet" for seed in seeds]
        return paths

    def arguments(self, name: str) -> str:
        """The command line of a figure, without rows and output."""
        declared, text = self.dag.config[name], f"--protocol {self.dag.config['evaluation']['protocol']}"
        for key in ("settings", "controls"):
            text += f" --{key} {' '.join(declared[key])}" if declared.get(key) else ""
        return text if name == "figure4" else f"{text} --prepared {self.dag.prepared} --root {self.dag.root}"

    def code(self) -> str:
        """Hash of what decides a figure beside its rows."""
        return source_hash(*self.dag.REPORT_CODE, *CODE, *DATA)
