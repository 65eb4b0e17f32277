"""Vessels: mug, bowl, vase, bottle, teapot. All but the bottle and the teapot are open and thin-walled."""

from __future__ import annotations

import numpy as np
from manifold3d import JoinType, Manifold

from data.sources.primitives import (
    ball,
    curve,
    cylinder,
    plate,
    rectangle,
    revolve,
    section,
    slab,
    torus,
    tube,
    union,
)


def _wall(outer: np.ndarray, wall: float, floor: float) -> tuple[Manifold, Manifold]:
    """The full body under an outer profile (k, 2) of (radius, y) from the bottom up, and the hollow inside it."""
    (low, high), lip = outer[[0, -1], 1], outer[-1, 0]
    body = revolve([(0, low), *outer, (0, high)])
    above = high + 1.0
    whole = section([*outer, (lip, above), (-lip, above), *(outer[::-1] * (-1, 1))])
    inner = whole.offset(-wall, JoinType.Miter) ^ rectangle((8, 8), (0, low + floor + 4))
    return body, revolve(inner)


def _handle(rng: np.random.Generator, radius_at, low: float, high: float, thick: float) -> Manifold:
    """A bail at +x between two heights of a body whose radius at y is `radius_at(y)`; its ends lie in the wall."""
    reach = rng.uniform(0.6, 1.3) * (high - low) * 0.6 + thick
    x0, x1 = radius_at(low) - thick * 0.5, radius_at(high) - thick * 0.5
    far = max(x0, x1) + reach * 1.33
    path = curve(
        [(x1, high, 0), (far, high + rng.uniform(-0.02, 0.1), 0), (far, low - rng.uniform(-0.1, 0.1), 0), (x0, low, 0)],
        18,
    )
    return tube(path, thick, 12)


def mug(rng: np.random.Generator) -> Manifold:
    """A cup with one handle to the right."""
    radius, height = rng.uniform(0.3, 0.55), rng.uniform(0.5, 1.2)
    bulge, foot = rng.uniform(-0.08, 0.12), rng.uniform(0.75, 1.0)
    outer = curve(
        [(radius * foot, 0), (radius + bulge, height * 0.35), (radius + bulge, height * 0.65), (radius, height)], 14
    )
    wall = rng.uniform(0.045, 0.09)
    body, hollow = _wall(outer, wall, rng.uniform(0.05, 0.12))
    if rng.random() < 0.2:
        sides = int(rng.integers(6, 10))  # a faceted outside
        body = body ^ cylinder(radius * 1.08, height, segments=sides)
    thick = rng.uniform(0.035, 0.07)
    low, high = height * rng.uniform(0.12, 0.3), height * rng.uniform(0.68, 0.88)
    handle = _handle(rng, lambda y: float(np.interp(y, outer[:, 1], outer[:, 0])), low, high, thick)
    return (body + handle) - hollow


def bowl(rng: np.random.Generator) -> Manifold:
    """A wide open vessel, from plate to basin, perhaps on a foot ring."""
    radius, height, foot = rng.uniform(0.6, 1.0), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.55)
    outer = curve(
        [(foot, 0), (foot + rng.uniform(0.2, 0.6), 0), (radius, height * rng.uniform(0.2, 0.7)), (radius, height)], 18
    )
    wall = rng.uniform(0.05, 0.09)
    body, hollow = _wall(outer, wall, rng.uniform(0.05, 0.1))
    solid = body - hollow
    if rng.random() < 0.5:
        rise = rng.uniform(0.03, 0.25)
        base = foot * rng.uniform(0.6, 1.0)
        solid += cylinder(base * rng.uniform(0.9, 1.2), rise + 0.03, (0, -rise, 0), top=base * 0.9)
    return solid


def vase(rng: np.random.Generator) -> Manifold:
    """A tall open vessel with belly and neck, round or many-sided, perhaps with two handles."""
    height = rng.uniform(0.9, 1.8)
    foot, belly, neck, lip = (
        rng.uniform(0.18, 0.4),
        rng.uniform(0.35, 0.9),
        rng.uniform(0.12, 0.35),
        rng.uniform(0.2, 0.45),
    )
    swell = rng.uniform(0.2, 0.6)
    outer = curve(
        [(foot, 0), (belly, height * swell * 0.7), (belly, height * swell * 1.2), (neck, height * 0.85), (lip, height)],
        22,
    )
    wall = rng.uniform(0.045, 0.08)
    body, hollow = _wall(outer, wall, rng.uniform(0.06, 0.12))
    parts = [body]
    if rng.random() < 0.4:
        radius_at = lambda y: float(np.interp(y, outer[:, 1], outer[:, 0]))  # noqa: E731
        low, high = height * rng.uniform(0.4, 0.55), height * rng.uniform(0.75, 0.9)
        handle = _handle(rng, radius_at, low, high, rng.uniform(0.03, 0.05))
        parts += [handle, handle.mirror((1, 0, 0))]
    return union(parts) - hollow


def bottle(rng: np.random.Generator) -> Manifold:
    """A closed bottle, can or canister: round or boxy body, shoulder, neck, cap, perhaps a grip."""
    radius, height = rng.uniform(0.2, 0.42), rng.uniform(0.5, 1.2)
    neck, tall = radius * rng.uniform(0.25, 0.7), rng.uniform(0.08, 0.4)
    shoulder = rng.uniform(0.08, 0.4)
    slope = curve(
        [
            (radius, height),
            (radius, height + shoulder * 0.6),
            (neck, height + shoulder * 0.5),
            (neck, height + shoulder),
        ],
        10,
    )
    profile = [
        (0, 0),
        (radius * rng.uniform(0.85, 1.0), 0),
        (radius, 0.05),
        *slope,
        (neck, height + shoulder + tall),
        (0, height + shoulder + tall),
    ]
    solid = revolve(profile)
    if rng.random() < 0.4:  # boxy: the same profile, squeezed and cut to a rounded rectangle
        width, depth = radius * 1.75, radius * rng.uniform(1.0, 1.6)
        body = slab(rectangle((width, depth), corner=radius * 0.3), height)
        solid = body + (solid ^ slab(rectangle((width, depth), corner=radius * 0.3), height * 3))
    cap = neck * rng.uniform(1.05, 1.4)
    solid += cylinder(
        cap,
        tall * rng.uniform(0.4, 0.9),
        (0, height + shoulder + tall * 0.4, 0),
        top=cap * rng.uniform(0.8, 1.0),
        segments=24,
    )
    if rng.random() < 0.2:
        solid += torus(radius * 0.99, 0.03, (0, height * rng.uniform(0.3, 0.9), 0))
    if rng.random() < 0.25:  # a canister's grip: a hole through the body
        hole = plate(rectangle((radius * 0.45, height * 0.5), corner=0.08), 4 * radius)
        solid -= hole.translate((radius * 0.5, height * 0.65, 0))
    return solid


def teapot(rng: np.random.Generator) -> Manifold:
    """A closed pot with lid and knob, spout to the left, handle to the right."""
    radius, height = rng.uniform(0.4, 0.6), rng.uniform(0.45, 1.0)
    foot, mouth = radius * rng.uniform(0.5, 0.9), radius * rng.uniform(0.4, 0.7)
    outer = curve([(foot, 0), (radius * 1.2, height * 0.2), (radius * 1.2, height * 0.8), (mouth, height)], 16)
    lid = curve([(mouth, height), (mouth, height + 0.1), (0.05, height + 0.16)], 8)
    parts = [
        revolve([(0, 0), *outer, *lid, (0, height + 0.16)]),
        ball(rng.uniform(0.05, 0.09), (0, height + 0.2, 0), 20),
    ]
    radius_at = lambda y: float(np.interp(y, outer[:, 1], outer[:, 0]))  # noqa: E731
    parts.append(
        _handle(
            rng, radius_at, height * rng.uniform(0.15, 0.3), height * rng.uniform(0.7, 0.85), rng.uniform(0.035, 0.06)
        )
    )
    start, tip = height * rng.uniform(0.2, 0.45), height * rng.uniform(0.8, 1.15)
    x, reach = radius_at(start) * 0.85, rng.uniform(0.3, 0.55)
    spout = curve([(-x, start, 0), (-x - reach, start, 0), (-x - reach * 0.7, tip, 0), (-x - reach * 1.4, tip, 0)], 18)
    parts.append(tube(spout, rng.uniform(0.05, 0.09), 14))
    return union(parts)


BUILDERS = (mug, bowl, vase, bottle, teapot)
