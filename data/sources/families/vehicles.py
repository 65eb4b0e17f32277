"""Vehicles, their fronts towards +Z: airplane, rocket, truck."""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data.sources.primitives import (
    around,
    block,
    box,
    curve,
    cylinder,
    mirrored,
    plate,
    revolve,
    rod,
    slab,
    torus,
    union,
)


def airplane(rng: np.random.Generator) -> Manifold:
    """Fuselage, swept wings, tail; engines or a propeller."""
    radius, nose, tail = rng.uniform(0.09, 0.17), rng.uniform(0.15, 0.5), rng.uniform(0.02, 0.08)
    profile = curve(
        [(0.0, 1.0), (radius * 1.1, 1.0 - nose * 0.2), (radius, 1 - nose), (radius, 0), (radius, -0.5), (tail, -1.0)],
        24,
    )
    body = revolve([(0, -1.0), *profile[::-1], (0, 1.0)], 32).rotate((90, 0, 0))
    span, root, tip = rng.uniform(0.6, 1.3), rng.uniform(0.25, 0.6), rng.uniform(0.08, 0.3)
    sweep, thick = rng.uniform(-0.1, 0.6), rng.uniform(0.035, 0.06)
    place, rise = rng.uniform(-0.1, 0.35), rng.choice([-0.6, 0.0, 0.7]) * radius
    wing = slab([(0, place), (0, place - root), (span, place - sweep - tip), (span, place - sweep)], thick, rise)
    lift = rng.uniform(-3, 8)
    parts = [body, *mirrored(wing.rotate((0, 0, lift)))]
    fin, height, back = rng.uniform(0.15, 0.35), rng.uniform(0.2, 0.45), -0.98
    rudder = plate(
        [(back + 0.02, 0), (back + fin + 0.1, 0), (back + fin * 0.4, height), (back - 0.08, height)], thick * 0.9
    )
    parts.append(rudder.rotate((0, -90, 0)))
    level = 0.0 if rng.random() < 0.6 else height - thick
    reach = rng.uniform(0.25, 0.5)
    plane = slab([(0, back + fin), (0, back), (reach, back - 0.05), (reach, back + fin * 0.45)], thick * 0.9, level)
    parts += mirrored(plane)
    kind = rng.random()
    if kind < 0.35:
        blades = [
            box((rng.uniform(0.4, 0.7), 0.07, 0.035), (0, 0, 0.97)).rotate((0, 0, 180 * i / 2 + 20))
            for i in range(int(rng.integers(1, 3)))
        ]
        parts += [rod((0, 0, 0.9), (0, 0, 1.06), 0.05, 0.03), *blades]
    elif kind < 0.8:
        size, x = rng.uniform(0.05, 0.09), span * rng.uniform(0.3, 0.45)
        y, middle = rise + x * np.tan(np.deg2rad(lift)) - size * 0.6, place - sweep * x / span
        engine = rod((x, y, middle - root * 0.4), (x, y, middle + 0.12), size * 0.8, size, segments=20)
        parts += mirrored(engine)
    return union(parts)


def rocket(rng: np.random.Generator) -> Manifold:
    """A standing rocket: nose cone, stages, fins, nozzle, perhaps boosters."""
    radius, height, nose = rng.uniform(0.15, 0.3), rng.uniform(0.8, 1.5), rng.uniform(0.3, 0.7)
    waist = radius * rng.uniform(0.6, 1.0)
    cone = curve([(waist, height), (waist, height + nose * 0.6), (0.01, height + nose)], 10)
    split = height * rng.uniform(0.4, 0.8)
    body = revolve(
        [
            (0, 0),
            (radius * rng.uniform(0.7, 1.0), 0),
            (radius, height * 0.15),
            (radius, split),
            (waist, split + 0.08),
            *cone,
            (0, height + nose),
        ]
    )
    nozzle = radius * rng.uniform(0.6, 1.1)
    parts = [body, cylinder(nozzle, 0.18, (0, -0.14, 0), top=radius * 0.4)]
    count, reach, thick = int(rng.integers(3, 6)), rng.uniform(0.15, 0.45), rng.uniform(0.03, 0.05)
    low, high = -rng.uniform(0.0, 0.3), height * rng.uniform(0.25, 0.5)
    fin = plate(
        [
            (radius * 0.5, 0.05),
            (radius + reach, low),
            (radius + reach, low + rng.uniform(0.05, 0.3)),
            (radius * 0.5, high),
        ],
        thick,
    )
    start = rng.uniform(0, 90)
    parts += around(fin, count, start)
    if rng.random() < 0.35:
        small = radius * rng.uniform(0.35, 0.6)
        tall = height * rng.uniform(0.4, 0.7)
        booster = cylinder(small, tall, (radius + small * 0.85, 0, 0), segments=24)
        booster += cylinder(small, small * 2, (radius + small * 0.85, tall, 0), top=0.01, segments=24)
        parts += around(booster, int(rng.integers(2, 5)), start + 30)
    solid = union(parts)
    if rng.random() < 0.5:
        window = radius * rng.uniform(0.3, 0.5)
        solid += torus(window, window * 0.3, segments=24).rotate((90, 0, 0)).translate((0, split * 0.8, radius * 0.97))
    return solid


def truck(rng: np.random.Generator) -> Manifold:
    """A car, van or lorry: chassis, cab, load and wheels."""
    width, length, wheel = rng.uniform(0.5, 0.8), rng.uniform(1.2, 2.2), rng.uniform(0.13, 0.26)
    floor, thick = wheel * rng.uniform(0.9, 1.3), rng.uniform(0.08, 0.2)
    parts = [block((-width / 2, floor, -length / 2), (width / 2, floor + thick, length / 2))]
    cab, tall = length * rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.7)
    front, top = length / 2, floor + thick
    slope, bonnet = rng.uniform(0, 0.5) * cab, rng.uniform(0, 0.35) * (rng.random() < 0.5)
    outline = [
        (front - bonnet, top - 0.02),
        (front - bonnet - slope, top + tall),
        (front - cab - bonnet, top + tall),
        (front - cab - bonnet, top - 0.02),
    ]
    parts.append(plate(outline, width * 0.96).rotate((0, -90, 0)))
    if bonnet:
        parts.append(
            block(
                (-width * 0.45, top - 0.02, front - bonnet - 0.05),
                (width * 0.45, top + tall * rng.uniform(0.3, 0.5), front),
            )
        )
    start, rear, kind = front - cab - bonnet, -length / 2, rng.integers(4)
    if kind == 0:  # closed body
        parts.append(
            block(
                (-width / 2, top - 0.02, rear),
                (width / 2, top + rng.uniform(0.3, 0.9), start - rng.uniform(-0.05, 0.08)),
            )
        )
    elif kind == 1:  # open bed
        side, board = rng.uniform(0.12, 0.3), 0.05
        bed = block((-width / 2, top - 0.02, rear), (width / 2, top + side, start + 0.01))
        parts.append(bed - block((-width / 2 + board, top, rear + board), (width / 2 - board, top + 1, start - board)))
    elif kind == 2:  # tank
        size = width * rng.uniform(0.35, 0.5)
        tank = rod((0, top + size * 0.9, rear + 0.05), (0, top + size * 0.9, start - 0.03), size, segments=32)
        parts += [tank, block((-0.1, top - 0.02, rear + 0.1), (0.1, top + size * 0.5, start - 0.1))]
    else:  # the cab goes on to the rear: a car
        back = [
            (start + 0.02, top - 0.02),
            (start + 0.02, top + tall),
            (rear + rng.uniform(0, 0.4), top + tall),
            (rear + 0.02, top - 0.02),
        ]
        parts.append(plate(back, width * 0.96).rotate((0, -90, 0)))
    track, wide = width / 2, rng.uniform(0.08, 0.16)
    axles = [front - wheel * 1.4, rear + wheel * 1.4]
    if rng.random() < 0.4 and length > 1.6:
        axles.append(rear + wheel * 3.6)
    for z in axles:
        parts += mirrored(rod((track - wide * 0.6, wheel, z), (track + wide * 0.4, wheel, z), wheel, segments=24))
        parts.append(box((width, wheel * 0.6, wheel * 0.6), (0, (wheel + floor) / 2 + 0.02, z)))
        parts.append(block((-width * 0.3, wheel * 0.8, z - 0.04), (width * 0.3, floor + 0.02, z + 0.04)))
    return union(parts)


BUILDERS = (airplane, rocket, truck)
