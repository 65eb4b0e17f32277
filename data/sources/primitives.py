"""Solids for the procedural families: manifold3d with +Y up, one function per shape.

Lengths are in any unit (objects are normalised later). Every function returns a closed solid; profiles and polygons
may run either way round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import manifold3d
import numpy as np
from manifold3d import CrossSection, FillRule, Manifold

Point = Sequence[float]


def box(size: Point, at: Point = (0, 0, 0)) -> Manifold:
    """A box with its centre at `at`."""
    return Manifold.cube(tuple(map(float, size)), True).translate(tuple(map(float, at)))


def block(low: Point, high: Point) -> Manifold:
    """The box between two corners."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    return box(high - low, (low + high) / 2)


def cylinder(
    radius: float, height: float, at: Point = (0, 0, 0), top: float | None = None, segments: int = 32
) -> Manifold:
    """An upright cylinder, or cone to the radius `top`, standing on `at`."""
    upright = Manifold.cylinder(height, radius, radius if top is None else top, segments).rotate((-90, 0, 0))
    return upright.translate(tuple(map(float, at)))


def rod(start: Point, end: Point, radius: float, top: float | None = None, segments: int = 16) -> Manifold:
    """A cylinder, or cone to the radius `top`, between two points."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    axis = end - start
    length = float(np.linalg.norm(axis))
    z = axis / length
    x = np.cross([0.0, 0.0, 1.0] if abs(z[2]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    frame = np.stack([x, np.cross(z, x), z, start], axis=1)
    return Manifold.cylinder(length, radius, radius if top is None else top, segments).transform(frame)


def beam(start: Point, end: Point, width: float) -> Manifold:
    """A bar of square section between two points, its sides along x or y where it can."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    axis = end - start
    length = float(np.linalg.norm(axis))
    z = axis / length
    x = np.cross([0.0, 0.0, 1.0] if abs(z[2]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    frame = np.stack([x, np.cross(z, x), z, (start + end) / 2], axis=1)
    return Manifold.cube((width, width, length), True).transform(frame)


def post(foot: Point, head: Point, thick: float, head_thick: float, *, square: bool = False) -> Manifold:
    """A leg, round or square, between two points of different height; cut level at both ends however it leans."""
    foot, head = np.asarray(foot, float), np.asarray(head, float)
    height = float(head[1] - foot[1])
    factor = 0.5 * (np.sqrt(2) if square else 1.0)
    upright = Manifold.cylinder(height, thick * factor, head_thick * factor, 4 if square else 16)
    if square:
        upright = upright.rotate((0, 0, 45))
    lean = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]).T  # z to y
    lean[:, 2] = (head - foot) / height
    return upright.transform(np.column_stack([lean, foot]))


def ball(radius: float, at: Point = (0, 0, 0), segments: int = 32) -> Manifold:
    """A sphere around `at`."""
    return Manifold.sphere(radius, segments).translate(tuple(map(float, at)))


def ellipsoid(radii: Point, at: Point = (0, 0, 0), segments: int = 32) -> Manifold:
    """An ellipsoid with semi-axes along x, y, z around `at`."""
    return Manifold.sphere(1.0, segments).scale(tuple(map(float, radii))).translate(tuple(map(float, at)))


def section(polygon: Iterable[Point]) -> CrossSection:
    """A plane region from one polygon, whichever way it runs."""
    return CrossSection([[tuple(map(float, point)) for point in polygon]], FillRule.EvenOdd)


def plate(polygon: Iterable[Point] | CrossSection, thickness: float, z: float = 0.0) -> Manifold:
    """A polygon in the x-y plane made `thickness` deep, its middle plane at `z`."""
    region = polygon if isinstance(polygon, CrossSection) else section(polygon)
    return Manifold.extrude(region, thickness).translate((0, 0, z - thickness / 2))


def slab(polygon: Iterable[Point] | CrossSection, height: float, y: float = 0.0) -> Manifold:
    """A polygon in the x-z plane (seen from below: x, z) raised by `height` from `y`."""
    region = polygon if isinstance(polygon, CrossSection) else section(polygon)
    return Manifold.extrude(region, height).rotate((-90, 0, 0)).mirror((0, 0, 1)).translate((0, y, 0))


def revolve(profile: Iterable[Point] | CrossSection, segments: int = 40) -> Manifold:
    """The part at radius >= 0 of a region of (radius, y) points turned about the y axis."""
    region = profile if isinstance(profile, CrossSection) else section(profile)
    return Manifold.revolve(region, segments).rotate((-90, 0, 0))


def torus(radius: float, thickness: float, at: Point = (0, 0, 0), segments: int = 40, around: int = 14) -> Manifold:
    """A lying ring: `radius` to the middle of the tube, `thickness` the radius of the tube."""
    angles = np.arange(around) * 2 * np.pi / around
    circle = np.stack([radius + thickness * np.cos(angles), thickness * np.sin(angles)], axis=1)
    return revolve(circle, segments).translate(tuple(map(float, at)))


def tube(path: np.ndarray, radius: float, segments: int = 12, *, closed: bool = False) -> Manifold:
    """A round bar along a path (k, 3); a closed one must lie in a plane. Bends must be wider than `radius`."""
    path = np.asarray(path, dtype=np.float64)
    ahead, behind = (np.roll(path, -1, 0), np.roll(path, 1, 0)) if closed else (path[1:], path[:-1])
    if closed:
        tangents = ahead - behind
    else:
        steps = ahead - behind
        tangents = np.concatenate([steps[:1], steps[1:] + steps[:-1], steps[-1:]])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    side = np.cross(tangents[0], np.eye(3)[np.argmin(np.abs(tangents[0]))])
    angles = np.arange(segments) * 2 * np.pi / segments
    rings = []
    for point, tangent in zip(path, tangents, strict=True):  # parallel transport keeps the ring from twisting
        side = side - tangent * (side @ tangent)
        side /= np.linalg.norm(side)
        other = np.cross(tangent, side)
        rings.append(point + radius * (np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * other))
    count = len(path)
    here = np.arange(count if closed else count - 1)[:, None] * segments + np.arange(segments)
    turn = np.roll(np.arange(segments), -1)
    there = (here + segments) % (count * segments)
    next_here, next_there = here[:, turn], there[:, turn]
    sides = [np.stack([here, next_here, next_there], -1), np.stack([here, next_there, there], -1)]
    faces = [part.reshape(-1, 3) for part in sides]
    if not closed:
        fan = np.stack([np.zeros(segments - 2, int), np.arange(1, segments - 1), np.arange(2, segments)], axis=1)
        faces += [fan[:, ::-1], fan + (count - 1) * segments]
    triangles = np.ascontiguousarray(np.concatenate(faces), dtype=np.uint64)
    return Manifold(manifold3d.Mesh64(np.ascontiguousarray(np.concatenate(rings)), triangles))


def arc(radius: float, start: float, end: float, count: int = 16, *, squeeze: float = 1.0) -> np.ndarray:
    """Points (count, 2) on a circle about 0 from angle `start` to `end` in degrees, the second axis squeezed."""
    angles = np.deg2rad(np.linspace(start, end, count))
    return np.stack([radius * np.cos(angles), squeeze * radius * np.sin(angles)], axis=1)


def curve(points: Sequence[Point], count: int = 16) -> np.ndarray:
    """Points (count, d) on the Bezier curve of the control points."""
    layer = np.asarray(points, dtype=np.float64)[:, None]
    t = np.linspace(0, 1, count)[:, None]
    while len(layer) > 1:
        layer = layer[:-1] * (1 - t) + layer[1:] * t
    return layer[0]


def circle(radius: float, at: Point = (0, 0), segments: int = 32) -> CrossSection:
    """A disc in the plane."""
    return CrossSection.circle(radius, segments).translate(tuple(map(float, at)))


def rectangle(size: Point, at: Point = (0, 0), corner: float = 0.0) -> CrossSection:
    """A rectangle in the plane with its centre at `at`, its corners rounded with the radius `corner`."""
    width, height = float(size[0]), float(size[1])
    corner = min(corner, 0.49 * width, 0.49 * height)
    region = CrossSection.square((width - 2 * corner, height - 2 * corner), True)
    if corner > 0:
        region = region.offset(corner, manifold3d.JoinType.Round, circular_segments=16)
    return region.translate(tuple(map(float, at)))


def union(parts: Iterable[Manifold]) -> Manifold:
    """All of them together."""
    return Manifold.batch_boolean(list(parts), manifold3d.OpType.Add)


def around(part: Manifold, count: int, start: float = 0.0) -> list[Manifold]:
    """`count` copies of a part turned evenly about the y axis, the first by `start` degrees."""
    return [part.rotate((0, start + 360.0 * i / count, 0)) for i in range(count)]


def mirrored(part: Manifold, axis: Point = (1, 0, 0)) -> list[Manifold]:
    """The part and its mirror image."""
    return [part, part.mirror(tuple(map(float, axis)))]
