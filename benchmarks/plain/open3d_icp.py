"""Open3D's ICP on one thread, in place of `evaluation.icp`: only benchmarks and tests need Open3D."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from core.errors import UserError


def load() -> ModuleType:
    """The module open3d, held to one thread. Raises `UserError` with what to install."""
    try:
        import open3d
    except ModuleNotFoundError as error:
        if error.name != "open3d":
            raise
        raise UserError("scoring is compared with Open3D's: pip install open3d") from error
    except (ImportError, OSError) as error:
        if "libusb" in str(error):
            raise UserError("Open3D needs a system library: apt-get install libusb-1.0-0") from error
        raise UserError(f"Open3D is installed but cannot be loaded: {error}") from error
    open3d.utility.set_max_threads(1)  # sums of several threads differ in their last digits
    return open3d


def why_not() -> str:
    """Why it cannot be compared with here, for a row; nothing where it can."""
    try:
        load()
    except UserError as error:
        return str(error)
    return ""


def icp(
    source: np.ndarray, target: np.ndarray, _: Any, start: np.ndarray, distance: float,
    *, iterations: int, tolerance: float, scaling: bool,
) -> tuple[np.ndarray, float] | None:  # fmt: skip
    """Stands for `evaluation.icp.icp`; Open3D builds a tree of its own."""
    open3d = load()
    registration = open3d.pipelines.registration
    moving, fixed = (open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points)) for points in (source, target))
    estimation = registration.TransformationEstimationPointToPoint(scaling)
    criteria = registration.ICPConvergenceCriteria(tolerance, tolerance, iterations)
    result = registration.registration_icp(moving, fixed, distance, start, estimation, criteria)
    if not len(result.correspondence_set):
        return None
    return np.array(result.transformation), float(result.inlier_rmse)
