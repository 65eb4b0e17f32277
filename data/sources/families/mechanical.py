"""Things of metal: gear, wheel, bracket, chain, key, hammer, spectacles. Flat ones stand upright and face +Z."""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection, Manifold

from data.sources.primitives import (
    arc,
    around,
    ball,
    block,
    box,
    circle,
    cylinder,
    ellipsoid,
    mirrored,
    plate,
    rectangle,
    rod,
    section,
    torus,
    tube,
    union,
)


def _upright(solid: Manifold) -> Manifold:
    """A solid about the y axis turned to face +Z."""
    return solid.rotate((90, 0, 0))


def gear(rng: np.random.Generator) -> Manifold:
    """A toothed disc with a bore, holes or spokes, perhaps a hub, perhaps helical or bevelled."""
    teeth, tall, thick = int(rng.integers(7, 22)), rng.uniform(0.1, 0.28), rng.uniform(0.12, 0.6)
    pitch = 2 * np.pi / teeth
    root, tip = rng.uniform(0.48, 0.62), rng.uniform(0.2, 0.38)
    points = []
    for i in range(teeth):
        for share, radius in ((-root / 2, 1 - tall), (-tip / 2, 1.0), (tip / 2, 1.0), (root / 2, 1 - tall)):
            angle = (i + share) * pitch
            points.append((radius * np.cos(angle), radius * np.sin(angle)))
    region, bore = section(points), rng.uniform(0.1, 0.3)
    twist = rng.uniform(-25, 25) if rng.random() < 0.25 else 0.0
    narrow = rng.uniform(0.7, 0.95) if rng.random() < 0.25 else 1.0
    solid = Manifold.extrude(region, thick, 6 if twist else 0, twist, (narrow, narrow))
    parts, holes = [solid], [Manifold.cylinder(thick * 4, bore, bore, 32, True)]
    body = (1 - tall) * narrow
    if rng.random() < 0.5:
        hub = bore + rng.uniform(0.08, 0.2)
        parts.append(Manifold.cylinder(thick * rng.uniform(1.2, 1.8), hub, hub, 32))
    inner, rim = bore + rng.uniform(0.1, 0.18), body - rng.uniform(0.08, 0.15)
    if rng.random() < 0.6 and rim - inner > 0.12:
        count, half = int(rng.integers(3, 8)), (rim - inner) / 2
        middle = (rim + inner) / 2
        radius = min(half, middle * np.sin(np.pi / count) * 0.8)
        hole = Manifold.cylinder(thick * 4, radius, radius, 24, True).translate((middle, 0, 0))
        holes += [hole.rotate((0, 0, 360 * i / count)) for i in range(count)]
    return union(parts) - union(holes)


def wheel(rng: np.random.Generator) -> Manifold:
    """A tyre or rim with spokes and a hub; a cart wheel, a car wheel or a ship's wheel."""
    tyre, wide = rng.uniform(0.06, 0.22), rng.uniform(0.08, 0.4)
    if rng.random() < 0.5:
        ring = torus(1 - tyre, tyre).scale((1, max(wide / 2 / tyre, 0.5), 1))
    else:
        ring = cylinder(1, wide, (0, -wide / 2, 0), segments=48) - cylinder(1 - tyre, 3, (0, -1.5, 0), segments=48)
    hub, spoke, count = rng.uniform(0.1, 0.28), rng.uniform(0.02, 0.07), int(rng.integers(3, 13))
    middle = 1 - tyre * 0.7  # the spokes end in the ring
    long = wide * rng.uniform(0.8, 1.4)
    parts = [ring, cylinder(hub, long, (0, -long / 2, 0), segments=24)]
    kind = rng.random()
    grip = middle
    if kind > 0.85:
        grip = 1 + rng.uniform(0.12, 0.25)  # a ship's wheel: the spokes stand out
    if kind < 0.3:
        flat = box((middle - hub * 0.5, spoke * 1.5, spoke * rng.uniform(2, 4)), ((middle + hub * 0.5) / 2, 0, 0))
        parts += around(flat, min(count, 8))
    else:
        parts += around(rod((0, 0, 0), (grip, 0, 0), spoke, segments=10), count)
    solid = union(parts)
    if rng.random() < 0.6:
        bore = hub * rng.uniform(0.3, 0.6)
        solid -= cylinder(bore, 3, (0, -1.5, 0), segments=20)
    return _upright(solid)


def bracket(rng: np.random.Generator) -> Manifold:
    """Two plates at a right angle (or three) with screw holes and perhaps gussets."""
    width, tall, deep, thick = (
        rng.uniform(0.3, 1.2),
        rng.uniform(0.5, 1.2),
        rng.uniform(0.4, 1.2),
        rng.uniform(0.06, 0.16),
    )
    parts = [block((-width / 2, 0, 0), (width / 2, thick, deep)), block((-width / 2, 0, 0), (width / 2, tall, thick))]
    kind = rng.random()
    if kind < 0.45:
        share = rng.uniform(0.4, 0.95)
        places = (0.0,) if rng.random() < 0.5 else (-width / 2 + thick / 2, width / 2 - thick / 2)
        triangle = section([(0, 0), (deep * share, 0), (0, tall * share)])  # (z, y), turned to stand across x
        gusset = plate(triangle, thick * 0.9).rotate((0, -90, 0))
        parts += [gusset.translate((x, 0, 0)) for x in places]
    elif kind < 0.65:
        parts.append(block((-width / 2, tall - thick, 0), (width / 2, tall, deep * rng.uniform(0.4, 1.0))))
    elif kind < 0.8:
        parts.append(block((width / 2 - thick, 0, 0), (width / 2, tall, deep)))
    hole, columns = min(width * 0.2, rng.uniform(0.05, 0.12)), 1 if width < 0.6 else 2
    cuts = []
    for x in np.linspace(-0.5, 0.5, columns + 2)[1:-1] * width:
        for share in (0.45, 0.78)[: int(rng.integers(1, 3))]:
            cuts.append(cylinder(hole, thick * 2, (x, -thick / 2, deep * share), segments=20))
            cuts.append(rod((x, tall * share, -thick), (x, tall * share, thick * 2), hole, segments=20))
    return union(parts) - union(cuts)


def chain(rng: np.random.Generator) -> Manifold:
    """Links through one another, every second one turned; they do not touch."""
    count, thick = int(rng.integers(2, 6)), rng.uniform(0.07, 0.12)
    radius, straight = rng.uniform(0.28, 0.42), rng.uniform(0.05, 0.9)
    top, bottom = arc(radius, 0, 180, 12), arc(radius, 180, 360, 12)
    path = np.concatenate([np.add(top, (0, straight / 2)), np.subtract(bottom, (0, straight / 2))])
    link = tube(np.concatenate([path, np.zeros((len(path), 1))], axis=1), thick, 12, closed=True)
    inner = straight + 2 * (radius - thick)
    step = inner - 2 * thick * rng.uniform(0.1, 0.4) - thick * 0.1
    roll = rng.uniform(60, 90)
    sag = rng.uniform(0, 4)
    links = [link.rotate((0, roll * (i % 2) + sag * i, 0)).translate((0, i * step, 0)) for i in range(count)]
    whole = union(links).rotate((0, rng.uniform(10, 35), 0))
    return whole.rotate((0, 0, rng.choice([0.0, 90.0, rng.uniform(0, 90)])))


def key(rng: np.random.Generator) -> Manifold:
    """A bow with a hole, a shaft and bits, standing upright."""
    thick, bow, length = rng.uniform(0.06, 0.16), rng.uniform(0.2, 0.38), rng.uniform(0.6, 1.3)
    shaft, kind = rng.uniform(0.04, 0.09), rng.integers(4)
    if kind == 0:
        head: CrossSection = circle(bow) - circle(bow * rng.uniform(0.3, 0.72))
    elif kind == 1:
        head = rectangle((2 * bow, 1.6 * bow), corner=bow * 0.5) - circle(bow * rng.uniform(0.2, 0.5), (0, bow * 0.2))
    elif kind == 2:  # three rings
        ring = circle(bow * 0.6) - circle(bow * 0.36)
        head = (
            ring.translate((0, bow * 0.5))
            + ring.translate((-bow * 0.55, -bow * 0.2))
            + ring.translate((bow * 0.55, -bow * 0.2))
        )
    else:
        head = circle(bow, segments=6) - circle(bow * rng.uniform(0.3, 0.6), segments=6)
    parts = [plate(head, thick)]
    foot = -bow * 0.75 - length
    if rng.random() < 0.5:
        parts.append(rod((0, foot, 0), (0, -bow * 0.6, 0), shaft, segments=20))
    else:
        parts.append(block((-shaft, foot, -thick * 0.35), (shaft, -bow * 0.6, thick * 0.35)))
    side, low = 1 if rng.random() < 0.7 else -1, foot
    for _ in range(int(rng.integers(2, 6))):
        tall, reach = rng.uniform(0.05, 0.13), rng.uniform(0.08, 0.3)
        x0, x1 = sorted((0.0, side * (shaft + reach)))
        parts.append(block((x0, low, -thick * 0.3), (x1, low + tall, thick * 0.3)))
        low += tall + rng.uniform(0.0, 0.07)
        if low > foot + length * 0.5:
            break
    if rng.random() < 0.5:
        parts.append(cylinder(shaft * 1.8, 0.06, (0, -bow * 1.15, 0), segments=20))
    return union(parts)


def hammer(rng: np.random.Generator) -> Manifold:
    """A handle with a head: hammer, mallet or claw."""
    length, grip, head = rng.uniform(0.8, 1.6), rng.uniform(0.04, 0.08), rng.uniform(0.45, 0.9)
    tall = rng.uniform(0.12, 0.36)
    parts = [rod((0, 0, 0), (0, length, 0), grip * rng.uniform(0.8, 1.5), grip, segments=20)]
    kind, y = rng.integers(3), length
    if kind == 0:
        parts.append(
            rod(
                (-head / 2, y, 0),
                (head / 2, y, 0),
                tall / 2,
                tall / 2 * rng.uniform(0.7, 1.2),
                segments=int(rng.integers(6, 25)),
            )
        )
    elif kind == 1:
        parts.append(box((head, tall, tall * rng.uniform(0.7, 1.2)), (0, y, 0)))
    else:
        parts.append(rod((-head * 0.4, y, 0), (0.1, y, 0), tall * 0.4, tall * 0.3, segments=20))
        parts.append(rod((-head * 0.5, y, 0), (-head * 0.36, y, 0), tall * 0.5, segments=20))
        claw = section(
            [
                (0, -tall * 0.3),
                (head * 0.3, -tall * 0.25),
                (head * 0.6, -tall * 0.9),
                (head * 0.3, tall * 0.2),
                (0, tall * 0.3),
            ]
        )
        prong = plate(claw, tall * 0.2, tall * 0.22)
        parts += [*mirrored(prong, (0, 0, 1)), box((0.16, tall * 0.6, tall * 0.6), (0.06, y, 0)).translate((0, -y, 0))]
        parts[-3:] = [part.translate((0, y, 0)) for part in parts[-3:]]
    if rng.random() < 0.3:
        parts.append(ball(grip * 1.7, (0, 0, 0), 20))
    return union(parts)


def spectacles(rng: np.random.Generator) -> Manifold:
    """Two rims with a bridge and temples, with or without lenses."""
    wide, tall, gap, thick = (
        rng.uniform(0.22, 0.34),
        rng.uniform(0.14, 0.3),
        rng.uniform(0.05, 0.11),
        rng.uniform(0.028, 0.05),
    )
    x, power = gap + wide, rng.uniform(2, 4)  # super-ellipse: round to boxy
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    cos, sin = np.cos(angles), np.sin(angles)
    outline = np.stack(
        [wide * np.sign(cos) * np.abs(cos) ** (2 / power), tall * np.sign(sin) * np.abs(sin) ** (2 / power)], axis=1
    )
    rim = tube(np.concatenate([outline, np.zeros((32, 1))], axis=1), thick, 10, closed=True)
    side = [rim]
    if rng.random() < 0.5:
        side.append(plate(section(outline), thick * 0.8))
    length, hinge, drop = rng.uniform(0.7, 1.1), tall * rng.uniform(0.0, 0.4), rng.uniform(0.1, 0.3)
    bar = thick * rng.uniform(0.8, 1.2)
    end = x + wide * 1.06 - x
    path = np.array([(end, hinge, -length * s) for s in np.linspace(0, 1, 6)])
    tail = np.array([(end, hinge - drop * s**2, -length - drop * s) for s in np.linspace(0.2, 1, 6)])
    side += [
        tube(np.concatenate([path, tail]), bar, 10),
        rod((wide * 0.85, hinge, 0), (end, hinge, 0), bar * 1.3, segments=10),
        ball(bar * 1.3, (end, hinge, 0), 12),
    ]
    half = union(side).translate((x, 0, 0))
    rise = tall * rng.uniform(0.0, 0.5)
    bridge = tube(np.array([(gap * 1.6 * s, rise + 0.04 * (1 - s * s), 0) for s in np.linspace(-1, 1, 9)]), bar, 10)
    return union([*mirrored(half), bridge, ellipsoid((gap * 1.3, bar, bar), (0, rise, 0), 12)])


BUILDERS = (gear, wheel, bracket, chain, key, hammer, spectacles)
