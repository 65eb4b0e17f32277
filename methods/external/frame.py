"""From the axes of somebody's files to +Y up and the camera at +Z, by a rotation alone."""

from __future__ import annotations

import numpy as np

from core.errors import UserError

AXES = {"x": (1, 0, 0), "-x": (-1, 0, 0), "y": (0, 1, 0), "-y": (0, -1, 0), "z": (0, 0, 1), "-z": (0, 0, -1)}
USUAL_FRONT = {"y": "z", "-y": "-z", "z": "-y", "-z": "y", "x": "z", "-x": "z"}
"""What faces the camera where nothing is said: for y and z up, the conventions of glTF and of Blender."""


def rotation(up: str, front: str | None = None) -> np.ndarray:
    """The proper rotation (3, 3) that turns the axis `up` to +Y and `front` to +Z; x_new = rotation @ x.

    up, front: x, -x, y, -y, z or -z, not along one line; front may be None (`USUAL_FRONT`). Raises UserError otherwise.
    """
    for name, axis in (("up", up), ("front", front)):
        if axis not in AXES and not (name == "front" and axis is None):
            raise UserError(f"params.{name} is {axis!r}: choose one of {', '.join(AXES)}")
    y, z = np.array(AXES[up]), np.array(AXES[front or USUAL_FRONT[up]])
    if y @ z:
        raise UserError(f"params.up is {up} and params.front is {front}, which is the same line: front must be across")
    return np.array([np.cross(y, z), y, z], dtype=np.float64)  # rows: right, up, front: determinant +1
