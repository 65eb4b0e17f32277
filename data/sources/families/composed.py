"""csg: random compositions of primitives, joined, cut and intersected; no name fits them and none is meant to."""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data.sources.primitives import box, cylinder, ellipsoid, plate, section, torus


def _primitive(rng: np.random.Generator, size: float) -> Manifold:
    """One turned primitive around the origin, about `size` in radius."""
    a, b, c = rng.uniform(0.4, 1.0, 3) * size
    kind = rng.integers(6)
    if kind == 0:
        solid = box((2 * a, 2 * b, 2 * c))
    elif kind == 1:
        solid = ellipsoid((a, b, c))
    elif kind == 2:
        solid = cylinder(a, 2 * b, (0, -b, 0), top=a * rng.uniform(0.3, 1.0))
    elif kind == 3:
        solid = torus(size * rng.uniform(0.6, 0.8), size * rng.uniform(0.12, 0.3))
    elif kind == 4:
        solid = cylinder(a, 2 * b, (0, -b, 0), segments=int(rng.integers(3, 7)))
    else:
        count = int(rng.integers(4, 8))
        angles = np.arange(count) * 2 * np.pi / count + rng.uniform(0, 0.5, count)
        radii = size * rng.uniform(0.5, 1.0, count)
        solid = plate(section(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)), 1.2 * c)
    if rng.random() < 0.5:
        return solid.rotate(tuple(90.0 * rng.integers(0, 4, 3)))
    return solid.rotate(tuple(rng.uniform(0, 360, 3)))


def csg(rng: np.random.Generator) -> Manifold:
    """Two to five joined primitives, up to three cuts, and now and then the common part with another."""
    solid = _primitive(rng, 1.0)
    for _ in range(int(rng.integers(1, 5))):
        solid += _primitive(rng, rng.uniform(0.4, 0.9)).translate(tuple(_on_surface(rng, solid)))
    if rng.random() < 0.15:
        solid ^= _primitive(rng, 1.5)
    for _ in range(int(rng.integers(0, 4))):
        cut = _primitive(rng, rng.uniform(0.25, 0.7)).translate(tuple(_on_surface(rng, solid)))
        left = solid - cut
        if left.volume() > 0.4 * solid.volume():
            solid = left
    return solid


def _on_surface(rng: np.random.Generator, solid: Manifold) -> np.ndarray:
    """The centre of a random face: what is put there touches the solid."""
    mesh = solid.to_mesh64()
    if len(mesh.tri_verts) == 0:
        return np.zeros(3)
    face = mesh.tri_verts[rng.integers(len(mesh.tri_verts))]
    return mesh.vert_properties[face, :3].mean(axis=0)


BUILDERS = (csg,)
