"""Who finds nearest neighbours, which cells lie inside, and what a picture sees: the CPU path, or pytorch3d or kaolin
on a GPU, where one of them is installed.

    backend: auto | cpu | pytorch3d | kaolin

`auto` is pytorch3d or else kaolin where it is installed and CUDA shows a GPU, and the CPU path everywhere else; in the
workflow a scoring is shown a GPU only where a backend is named (evaluation/README.md says why). A backend says only
which sample is the nearest; distances are computed from the coordinates in float64, as on the CPU, so that numbers
agree to rounding. Samples are drawn on the CPU whatever the backend, by named random streams, unless `sampler: backend`
is asked for: a row must not depend on the machine that scored it. Of pictures of meshes, pytorch3d says only which face
a pixel sees. Of watertight meshes, kaolin says which cells of a grid lie inside. What a backend does not do, or not for
some mesh, the CPU path does.

Nothing heavy is imported until a backend other than `cpu` is used.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from core.errors import UserError
from evaluation.backends_command import BACKENDS, SAMPLERS

INSTALLATION = {
    "cpu": "https://github.com/storpipfugl/pykdtree",
    "pytorch3d": "https://github.com/facebookresearch/pytorch3d/blob/main/INSTALL.md",
    "kaolin": "https://kaolin.readthedocs.io/en/latest/notes/installation.html",
}
"""Each project's own installation page; the CPU path has pykdtree's."""

NEIGHBOURS, SAMPLES, INSIDE, RASTERISER = "neighbours", "samples", "inside tests", "rasteriser"
USES = {
    NEIGHBOURS: {
        "cpu": "a tree of pykdtree",
        "pytorch3d": "ops.knn_points",
        "kaolin": "metrics.pointcloud.sided_distance",
    },
    SAMPLES: {
        "cpu": "named random streams of NumPy",
        "pytorch3d": "ops.sample_points_from_meshes",
        "kaolin": "ops.mesh.sample_points",
    },
    INSIDE: {"cpu": "winding numbers along columns of cells", "kaolin": "ops.mesh.check_sign"},
    RASTERISER: {"cpu": "rays of Embree", "pytorch3d": "renderer.MeshRasterizer"},
}
"""What is used for what, by backend: a backend that has nothing for a use leaves it to the CPU path."""


class Index(Protocol):
    """Nearest neighbours among points (n, 3) that were given before."""

    def query(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distances (m,) float64 and indices (m,) of the nearest to each of points (m, 3)."""
        ...


@dataclass(frozen=True)
class Found:
    """A backend on this machine. version: None if it is not installed. usable: whether it can run here; why not."""

    name: str
    version: str | None
    usable: bool
    why_not: str


@dataclass(frozen=True)
class Choice:
    """What scores: the backend by its name (never `auto`), and who draws the samples."""

    backend: str
    sampler: str

    def record(self) -> str:
        """For the record of rows: empty for the CPU path, else backend, version, device and sampler."""
        if self.backend == "cpu":
            return ""
        inside = ", inside tests" if self.of(INSIDE) != "cpu" else ""
        return f"{self.named()}, sampler {self.sampler}{inside}"

    def rasteriser(self) -> str:
        """For the note of a picture: backend, version and device; empty where the CPU path casts rays."""
        return self.named() if self.of(RASTERISER) != "cpu" else ""

    def of(self, use: str) -> str:
        """Who does one of `USES`: the backend by its name, or `cpu`."""
        if use == SAMPLES and self.sampler == "cpu":
            return "cpu"
        return self.backend if self.backend in USES[use] else "cpu"

    def named(self) -> str:
        """The backend with its version and device; of the CPU path its name alone."""
        if self.backend == "cpu":
            return "cpu"
        from evaluation import accelerated

        version = installed_version(self.backend) or "unknown version"
        return f"{self.backend} {version} on {accelerated.device()}"


CPU = Choice("cpu", "cpu")
_used = CPU


def installed_version(name: str) -> str | None:
    """The version of a package, without importing it; None if it is not installed."""
    if name not in sys.modules and importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(sys.modules.get(name), "__version__", "of unknown version"))


def look(name: str) -> Found:
    """What this machine has of a backend. torch is imported only if the backend is installed."""
    if name == "cpu":
        return Found("cpu", f"pykdtree {installed_version('pykdtree')}", True, "")
    version = installed_version(name)
    if version is None:
        return Found(name, None, False, "not installed")
    from evaluation import accelerated

    why_not = accelerated.why_not(name)
    return Found(name, version, not why_not, why_not)


def choose(backend: str = "auto", sampler: str = "cpu") -> Choice:
    """What a run uses. Raises `UserError` for an unknown name, or a named backend that cannot run here."""
    if backend not in BACKENDS:
        raise UserError(f"there is no backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    if sampler not in SAMPLERS:
        raise UserError(f"there is no sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}")
    if backend == "auto":
        backend = automatic()
    elif not (found := look(backend)).usable:
        raise UserError(f"the backend {backend} cannot be used here ({found.why_not}): see {INSTALLATION[backend]}")
    if backend == "cpu" and sampler == "backend":
        raise UserError("sampler: backend needs a backend other than cpu: the CPU path draws its samples itself")
    return Choice(backend, sampler)


def automatic() -> str:
    """The backend that `auto` stands for here: one on a GPU, or `cpu`."""
    for name in ("pytorch3d", "kaolin"):
        if installed_version(name) is not None:
            from evaluation import accelerated

            if not accelerated.why_not(name) and accelerated.device() == "cuda":
                return name
    return "cpu"


def use(choice: Choice) -> None:
    """Score with this from now on, in this process."""
    global _used
    _used = choice


@contextmanager
def using(choice: Choice) -> Iterator[None]:
    """Score with this within the block."""
    before = _used
    use(choice)
    try:
        yield
    finally:
        use(before)


def index(points: np.ndarray) -> Index:
    """An index over points (n, 3) float64, of the backend in use."""
    if _used.of(NEIGHBOURS) == "cpu":
        from evaluation.neighbours import Tree

        return Tree(points)
    from evaluation import accelerated

    return accelerated.Index(points, _used.backend)


def draw(
    vertices: np.ndarray, faces: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Points and unit normals, each (n, 3) float64, drawn by the backend in use; None where the CPU path draws them."""
    if _used.of(SAMPLES) == "cpu":
        return None
    from evaluation import accelerated

    return accelerated.draw(vertices, faces, n, rng, _used.backend)


def inside(cells: np.ndarray, faces: np.ndarray, resolution: int) -> np.ndarray | None:
    """Which cells of a grid have their centre inside a watertight mesh, by the backend in use.

    cells (n, 3): vertices in units of cells, the centre of cell i at i. faces (m, 3). Returns (resolution,) * 3 bool,
    indexed x, y, z; None where the CPU path is to say: without kaolin, and of a mesh that it is not asked about.
    """
    if _used.of(INSIDE) == "cpu":
        return None
    from evaluation import accelerated

    return accelerated.inside(cells, faces, resolution)


def visible(points: np.ndarray, faces: np.ndarray, *, tangent: float, size: int) -> np.ndarray | None:
    """Which face each pixel of a picture sees, by the backend in use; None where the CPU path casts rays.

    points (n, 3): in camera axes (right, up, backward), before the camera. faces (m, 3), seen from both sides. tangent:
    of half the field of view. Returns (size, size) int64, the upper row first, -1 where no face is seen.
    """
    if _used.of(RASTERISER) == "cpu":
        return None
    from evaluation import accelerated

    return accelerated.visible(points, faces, tangent=tangent, size=size)
