"""What figures of meshes are made from: rows, the meshes that they are of, and the true objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import UserError
from data.store import Sample, Split
from evaluation import load
from evaluation.load import MeshError, Triangles
from evaluation.placement import onto_truth
from evaluation.protocol import Protocol
from methods.meshes import file_name
from methods.specs import parse_setting
from reports.comparison import metric_columns
from reports.figures.selection import at_quantiles
from reports.rows import IDENTITY


@dataclass(frozen=True)
class Material:
    """rows: of `reports.rows.read`. prepared: the folder of shards. generated: the folder of all methods' meshes."""

    rows: pd.DataFrame
    protocol: Protocol
    prepared: Path
    generated: Path

    @cached_property
    def split(self) -> Split:
        """The test objects."""
        return Split(self.prepared, "test")

    def of(self, name: str) -> pd.DataFrame:
        """The rows of `method/variant`, none if it was not run."""
        method, variant = parse_setting(name)
        return self.rows[(self.rows["method"] == method) & (self.rows["variant"] == variant)]

    def chosen(self, names: Sequence[str], quantiles: Sequence[float]) -> tuple[str, list[tuple[str, int]]]:
        """Objects with their first view at the quantiles of the F-score of the first name that was run; that name."""
        measured = next((name for name in names if (self.of(name)["status"] == "ok").any()), None)
        if measured is None:
            raise UserError(f"none of {', '.join(names)} has a scored mesh, so there is nothing to draw; run one")
        mine = self.of(measured)
        scores = mine.groupby("object")[metric_columns(self.protocol)["fscore"]].mean()
        views = mine.groupby("object")["view"].min()
        return measured, [(name, int(views[name])) for name in at_quantiles(dict(scores), quantiles)]

    def shown(self, objects: Sequence[tuple[str, int]]) -> pd.DataFrame:
        """The rows, of the first seed, of these objects and views: what stands behind a figure's pictures."""
        keys = pd.MultiIndex.from_frame(self.rows[["object", "view"]])
        mine = self.rows[keys.isin(list(objects))].sort_values("seed")
        mine = mine.drop_duplicates(["object", "view", "method", "variant"]).sort_values(list(IDENTITY))
        numbers = dict.fromkeys([*metric_columns(self.protocol).values(), f"viou_{max(self.protocol.viou, default=0)}"])
        return mine[[*IDENTITY, "category", "status", *(name for name in numbers if name in mine)]]

    def row(self, name: str, object: str, view: int) -> dict[str, Any] | None:
        """The row of `method/variant` for an object and view, of its first seed; None if it was not run."""
        mine = self.of(name)
        mine = mine[(mine["object"] == object) & (mine["view"] == view)].sort_values("seed")
        return None if mine.empty else mine.iloc[0].to_dict()

    def sample(self, object: str, view: int) -> Sample:
        """The true object. Raises UserError if the prepared data are of other objects."""
        if object not in self.split.objects:
            raise UserError(
                f"{self.prepared} has no test object {object!r}; give --prepared of the data that were scored"
            )
        return self.split.sample(self.split.objects.index(object), view)

    def mesh(self, row: dict[str, Any]) -> Triangles:
        """The mesh that a row is of, in the view frame, as it was generated."""
        path = self.generated / row["method"] / row["variant"] / f"seed{row['seed']}" / "meshes"
        path /= file_name(row["object"], int(row["view"]))
        if not path.is_file():
            raise UserError(f"{path} is not there, but its row is; generate again, or correct --root")
        try:
            return load.read(path)
        except MeshError as error:
            raise UserError(f"{path} cannot be drawn ({error}); generate again") from error

    def aligned(self, row: dict[str, Any], sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Vertices (n, 3), put where the protocol put them before it measured, and faces (m, 3)."""
        mesh = self.mesh(row)
        return onto_truth(mesh.vertices, sample.mesh()[0], row, self.protocol), mesh.faces
