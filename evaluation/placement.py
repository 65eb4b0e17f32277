"""Where the protocol put a prediction: the transform as columns of a row, and back, for pictures of aligned meshes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from core.errors import UserError
from evaluation.metrics import Transform
from evaluation.protocol import Protocol
from evaluation.surface import box, normalise

COLUMNS = ("rotation_x", "rotation_y", "rotation_z", "translation_x", "translation_y", "translation_z")
"""Rotation vector in degrees (its length is `rotation_deg`), and translation in units of the normalised box."""


def columns(transform: Transform) -> dict[str, float]:
    """The columns of a row that, with `align_scale`, say the whole transform."""
    turn = Rotation.from_matrix(transform.rotation).as_rotvec(degrees=True)
    return dict(zip(COLUMNS, map(float, [*turn, *transform.translation]), strict=True))


def transform_of(row: Mapping[str, Any]) -> Transform:
    """The transform that a row says. Raises UserError for a row of an older evaluation, which does not say it."""
    missing = [name for name in COLUMNS if name not in row]
    if missing:
        raise UserError(f"the rows lack the column {missing[0]!r}, so aligned meshes cannot be drawn; score them again")
    if not np.isfinite([row[name] for name in COLUMNS]).all():
        raise UserError(f"the row of {row.get('object')} of {row.get('method')}/{row.get('variant')} says no transform")
    turn, shift = ([float(row[name]) for name in part] for part in (COLUMNS[:3], COLUMNS[3:]))
    rotation = Rotation.from_rotvec(turn, degrees=True).as_matrix()
    return Transform(rotation, np.array(shift), float(row["align_scale"]))


def normalised(vertices: np.ndarray, truth: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Vertices (n, 3) in the protocol's box: by their own bounding box, by that of `truth` (m, 3), or as they are."""
    if protocol.normalise == "none":
        return vertices
    return normalise(vertices, *box(truth if protocol.normalise == "truth" else vertices))


def onto_truth(vertices: np.ndarray, truth: np.ndarray, row: Mapping[str, Any], protocol: Protocol) -> np.ndarray:
    """A prediction (n, 3) as it was scored, moved to the place of the true vertices (m, 3); both in the view frame."""
    placed = transform_of(row).apply(normalised(vertices.astype(np.float64), truth.astype(np.float64), protocol))
    if protocol.normalise == "none":
        return placed
    centre, longest_side = box(truth.astype(np.float64))
    return placed * (longest_side / 2) + centre
