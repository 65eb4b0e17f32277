"""Open3D's ICP on one thread, in place of `evaluation.icp`: only benchmarks and tests need Open3D."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from core.errors import UserError
from evaluation.align import Alignment, _decompose, _Pair
from evaluation.metrics import Transform
from evaluation.protocol import Align


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


def refined(pair: _Pair, name: str, start: Transform, settings: Align) -> Alignment:
    """Stands for `evaluation.align._icp`."""
    open3d = load()
    registration = open3d.pipelines.registration
    source, target = (
        open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points)) for points in (pair.source, pair.target)
    )
    scaling, matrix, residual = settings.icp == "similarity", np.eye(4), float("nan")
    estimation = registration.TransformationEstimationPointToPoint(scaling)
    criteria = registration.ICPConvergenceCriteria(settings.tolerance, settings.tolerance, settings.iterations)
    matrix[:3, :3] = start.rotation
    for distance in settings.correspondence:
        result = registration.registration_icp(source, target, distance, matrix, estimation, criteria)
        if not len(result.correspondence_set):
            break
        matrix, residual = np.array(result.transformation), float(result.inlier_rmse)
    transform = _decompose(matrix, scaling=scaling)
    return Alignment(start, name, float("nan")) if transform is None else Alignment(transform, name, residual)
