"""Which objects of a dataset test a generator: those that are not too simple, then that many by a seeded hash.

The paper draws 100 objects of each test set at random and does not say which. Here the choice is a rule, so that
anyone with the dataset can make the same list: an object is too simple if it

- fills more than 90 % of its bounding box (a box, a brick, a book), or
- has nearly all of its surface along the axes: mean over its area of the largest |n . axis| above 0.95, or
- is within 1 % of a ball or of an upright or lying cylinder: root mean square of the distance of points of its
  surface to it, over its longest side.

The box is the axis-aligned one: scans of boxes stand straight in both datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.randomness import numpy_rng, seed_of
from data.load import BadMesh, RawMesh, normalise
from data.sample import face_normals, sample_surface
from data.watertight import make_solid

FILL, BOXLIKE, RESIDUAL = 0.9, 0.95, 0.01
GRID = 96  # of the solid that the volume is of
POINTS = 4096


@dataclass(frozen=True)
class Simplicity:
    """How simple a shape is. `fill`: its volume over that of its bounding box; `boxlike`: mean of the largest
    |n . axis|; `ball`, `cylinder`: root mean square distance to the best ball and cylinder, over the longest side."""

    fill: float
    boxlike: float
    ball: float
    cylinder: float

    def reason(self) -> str:
        """Why the shape is too simple, or an empty string."""
        if self.fill > FILL:
            return f"it fills {self.fill:.0%} of its bounding box"
        if self.boxlike > BOXLIKE:
            return f"its surface is along the axes ({self.boxlike:.2f})"
        if min(self.ball, self.cylinder) < RESIDUAL:
            return (
                f"it is a {'ball' if self.ball < self.cylinder else 'cylinder'} to {min(self.ball, self.cylinder):.1%}"
            )
        return ""


def simplicity(mesh: RawMesh, name: str) -> Simplicity:
    """Measure one mesh; `name` seeds its sample. Raises BadMesh for one that cannot be made solid."""
    vertices, _, _ = normalise(mesh.vertices)
    solid = make_solid(RawMesh(vertices, mesh.faces), GRID)
    surface = solid.mesh()
    size = np.ptp(surface[0], axis=0)
    corners = surface[0][surface[1]]
    volume = abs(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum()) / 6
    normals, areas = face_normals(vertices, mesh.faces)  # as scanned: a grid's surface has steps
    try:
        points, _ = sample_surface(*surface, POINTS, rng=numpy_rng("simplicity", name))
    except ValueError as error:
        raise BadMesh(str(error)) from error
    longest = float(size.max())
    return Simplicity(
        fill=float(volume / np.prod(size)),
        boxlike=float(np.average(np.abs(normals).max(axis=1), weights=areas)),
        ball=ball_residual(points) / longest,
        cylinder=min(cylinder_residual(points, axis) for axis in range(3)) / longest,
    )


def ball_residual(points: np.ndarray) -> float:
    """Root mean square distance of points (n, 3) to the sphere that fits them best (algebraic least squares)."""
    centre, radius = _circle(points)
    return float(np.sqrt(np.mean((np.linalg.norm(points - centre, axis=1) - radius) ** 2)))


def cylinder_residual(points: np.ndarray, axis: int) -> float:
    """Root mean square distance of points (n, 3) to the closed cylinder along `axis` that fits them best."""
    across, along = np.delete(points, axis, axis=1), points[:, axis]
    low, high = along.min(), along.max()
    on_caps = np.minimum(along - low, high - along)
    # The side's circle is fitted to points that are far out and not near a cap.
    out = np.linalg.norm(across - (across.min(axis=0) + across.max(axis=0)) / 2, axis=1)
    side = across[(out > 0.9 * out.max()) & (on_caps > 0.05 * (high - low))]
    if len(side) < 8:
        return float("inf")
    centre, radius = _circle(side)
    from_side = np.abs(np.linalg.norm(across - centre, axis=1) - radius)
    return float(np.sqrt(np.mean(np.minimum(from_side, on_caps) ** 2)))


def _circle(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius of the circle or sphere with the least algebraic error: |x|^2 = 2 x.c + (r^2 - |c|^2)."""
    system = np.concatenate([2 * points, np.ones((len(points), 1))], axis=1)
    solution, *_ = np.linalg.lstsq(system, np.sum(points**2, axis=1), rcond=None)
    centre = solution[:-1]
    return centre, float(np.sqrt(max(solution[-1] + centre @ centre, 0.0)))


def chosen(reasons: Mapping[str, str], count: int, *, dataset: str, seed: int = 0) -> list[str]:
    """The names of `count` objects without a reason against them, the first by a seeded hash, in alphabetical order.

    Another object in the dataset changes at most one name of the list.
    """
    able = [name for name, reason in reasons.items() if not reason]
    return sorted(sorted(able, key=lambda name: (seed_of("test list", dataset, seed, name), name))[:count])


def as_list(names: Sequence[str], categories: Mapping[str, str], about: Sequence[str]) -> str:
    """An object list (CSV) of the test split; `about`: its provenance, as lines of comment."""
    lines = [f"# {line}" for line in about] + ["id,split,category"]
    quoted = {name: f'"{text}"' if "," in (text := categories.get(name, "")) else text for name in names}
    return "\n".join([*lines, *(f"{name},test,{quoted[name]}" for name in names)]) + "\n"
