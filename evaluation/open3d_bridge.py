"""Open3D, loaded late and held to one thread: the ICP of the alignment and fast nearest neighbours.

Only alignment needs it. Without it `Tree` falls back on SciPy, which is slower and gives the same numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
from scipy.spatial import cKDTree

from core.errors import UserError

SCIPY = {"balanced_tree": False, "compact_nodes": False, "leafsize": 128}
"""Of SciPy's tree. Many samples of flat faces share a coordinate: its own settings, which split at the median down to
leaves of 16, take up to three times as long over them (docs/log.md, `SciPy's tree at its best, and manifolds`)."""


@functools.cache
def load() -> ModuleType:
    """The module open3d. Raises `UserError` with what to install."""
    try:
        import open3d
    except ModuleNotFoundError as error:
        if error.name != "open3d":
            raise
        raise UserError("alignment needs Open3D: pip install open3d, or choose a protocol without alignment") from error
    except (ImportError, OSError) as error:
        if "libusb" in str(error):
            raise UserError("Open3D needs a system library: apt-get install libusb-1.0-0") from error
        raise UserError(f"Open3D is installed but cannot be loaded: {error}") from error
    return open3d


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold Open3D to one thread: sums of several threads differ in their last digits, and cores are others' too."""
    utility = load().utility
    if not hasattr(utility, "set_max_threads"):  # an older Open3D: OMP_NUM_THREADS=1 does it, which the CLI sets
        yield
        return
    before = utility.get_max_threads()
    utility.set_max_threads(1)
    try:
        yield
    finally:
        utility.set_max_threads(before)


class Tree:
    """Nearest neighbours among points (n, 3) float64."""

    def __init__(self, points: np.ndarray) -> None:
        try:
            core = load().core
        except UserError:
            self._index, self._scipy = None, cKDTree(points, **SCIPY)
            return
        self._tensor = core.Tensor
        with one_thread():
            self._index = core.nns.NearestNeighborSearch(core.Tensor(np.ascontiguousarray(points)))
            self._index.knn_index()

    def query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (m,) and indices (m,) of the nearest of the tree's points to each of points (m, 3)."""
        if self._index is None:
            return self._scipy.query(points)
        with one_thread():
            indices, squares = self._index.knn_search(self._tensor(np.ascontiguousarray(points)), 1)
        return np.sqrt(squares.numpy()[:, 0]), indices.numpy()[:, 0]
