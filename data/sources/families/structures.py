"""Structures: bridge, arch, house."""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data.sources.primitives import arc, beam, block, box, cylinder, mirrored, plate, rod, section, union


def _opening(half: float, spring: float, rise: float, *, down: float = 1.0) -> list:
    """An arched opening in the x-y plane, from `down` below 0 to the height `spring` and over it by `rise`."""
    crown = arc(half, 0, 180, 16, squeeze=rise / half)
    crown[:, 1] += spring
    return [(half, -down), *crown, (-half, -down)]


def bridge(rng: np.random.Generator) -> Manifold:
    """A deck over arches, on piers, under cables or in a truss; along x."""
    length, width, deck = 2.0, rng.uniform(0.3, 0.7), rng.uniform(0.05, 0.12)
    kind = rng.integers(4)
    rail, tall = rng.uniform(0.03, 0.05), rng.uniform(0.08, 0.2)
    if kind == 0:  # stone arches, perhaps humped
        count, height = int(rng.integers(1, 5)), rng.uniform(0.3, 0.8)
        hump = rng.uniform(0, 0.3)
        xs = np.linspace(-1, 1, 17)
        top = [(x, height + deck + hump * (1 - x * x)) for x in xs]
        wall = section([(-1, 0), (1, 0), *top[::-1]])
        pier = rng.uniform(0.06, 0.15)
        half = (length / count - pier) / 2
        rise = min(half, height * 0.9) * rng.uniform(0.7, 1.0)
        for i in range(count):
            x = -1 + (i + 0.5) * length / count
            hole = section(_opening(half, max(height - rise - 0.02, 0.02), rise))
            wall -= hole.translate((x, 0))
        solid = plate(wall, width)
        parapet = section([*top, *[(x, y + tall) for x, y in top[::-1]]])
        return union(
            [solid, *(plate(parapet, rail, side * (width - rail) / 2).translate((0, -0.01, 0)) for side in (1, -1))]
        )
    height = rng.uniform(0.25, 0.7)
    parts = [block((-1, height, -width / 2), (1, height + deck, width / 2))]
    piers = int(rng.integers(2, 5))
    places = np.linspace(-0.8, 0.8, piers)
    if kind == 1:  # beam bridge with railings
        for x in places:
            parts.append(block((x - 0.06, 0, -width * 0.35), (x + 0.06, height + 0.01, width * 0.35)))
        posts = int(rng.integers(4, 9))
        for z in (width / 2 - rail / 2, -width / 2 + rail / 2):
            parts.append(box((2, rail, rail), (0, height + deck + tall, z)))
            parts += [
                box((rail, tall + 0.02, rail), (x, height + deck + tall / 2, z))
                for x in np.linspace(-0.97, 0.97, posts)
            ]
        return union(parts)
    z = width / 2 - 0.03
    if kind == 2:  # cables from towers
        tower, mast = rng.uniform(0.5, 1.0), rng.uniform(0.05, 0.09)
        stays = int(rng.integers(2, 5))
        for x in (-0.45, 0.45) if rng.random() < 0.6 else (0.0,):
            reach = 0.5 if x else 0.95
            side = [box((mast, height + tower, mast), (x, (height + tower) / 2, z))]
            for i in range(1, stays + 1):
                for sign in (1, -1):
                    foot = (x + sign * reach * i / stays, height + deck * 0.5, z)
                    side.append(rod(foot, (x, height + tower * (0.6 + 0.38 * i / stays), z), 0.02, segments=8))
            parts += mirrored(union(side), (0, 0, 1))
            parts.append(box((mast, mast, width), (x, height + tower * 0.97, 0)))
        return union(parts)
    tall, bays, bar = rng.uniform(0.3, 0.55), int(rng.integers(3, 7)), rng.uniform(0.03, 0.05)  # truss
    xs, base = np.linspace(-0.96, 0.96, bays + 1), height + deck / 2
    top = base + tall
    side = [beam((xs[1] - 0.01, top, z), (xs[-2] + 0.01, top, z), bar)]
    for i in range(bays):
        low, high = ((xs[i], base), (xs[i + 1], top)) if i % 2 == 0 else ((xs[i + 1], base), (xs[i], top))
        if i == bays - 1:
            low, high = (xs[-1], base), (xs[-2], top)
        side.append(beam((*low, z), (*high, z), bar))
    side += [beam((x, base, z), (x, top, z), bar * 0.8) for x in xs[1:-1]]
    parts += mirrored(union(side), (0, 0, 1))
    for x in (-0.85, 0.85):
        parts.append(block((x - 0.08, 0, -width * 0.4), (x + 0.08, height + 0.01, width * 0.4)))
    return union(parts)


def arch(rng: np.random.Generator) -> Manifold:
    """A gate, triumphal arch or colonnade, facing +Z."""
    height, depth = rng.uniform(0.8, 1.6), rng.uniform(0.2, 0.6)
    count, half = int(rng.integers(1, 4)), rng.uniform(0.2, 0.4)
    pier, over = rng.uniform(0.1, 0.3), rng.uniform(0.08, 0.35)
    rise = half * rng.uniform(0.6, 1.4)
    spring = max(height - rise, 0.3)
    width = count * 2 * half + (count + 1) * pier
    wall = section(
        [(-width / 2, 0), (width / 2, 0), (width / 2, spring + rise + over), (-width / 2, spring + rise + over)]
    )
    centres = [-width / 2 + pier + half + i * (2 * half + pier) for i in range(count)]
    if rng.random() < 0.4:  # columns instead of piers
        for x in centres:
            wall -= section(_opening(half, spring, rise)).translate((x, 0))
        beamed = plate(wall, depth) - block((-width, -1, -depth), (width, spring - 0.02, depth))
        columns = []
        for i in range(count + 1):
            x = -width / 2 + pier / 2 + i * (2 * half + pier)
            for z in (0,) if depth < 0.35 else (depth / 2 - pier * 0.4, -depth / 2 + pier * 0.4):
                columns.append(cylinder(pier * 0.42, spring + 0.02, (x, 0, z), top=pier * 0.36, segments=20))
        base = block((-width / 2 - 0.05, -0.08, -depth / 2 - 0.05), (width / 2 + 0.05, 0.01, depth / 2 + 0.05))
        return union([beamed, base, *columns])
    for x in centres:
        wall -= section(_opening(half, spring, rise)).translate((x, 0))
    parts, top = [plate(wall, depth)], spring + rise + over
    if rng.random() < 0.6:
        parts.append(box((width + 0.12, rng.uniform(0.06, 0.14), depth + 0.12), (0, top, 0)))
    if rng.random() < 0.3:
        gable = rng.uniform(0.15, 0.4)
        parts.append(plate([(-width / 2, top - 0.01), (width / 2, top - 0.01), (0, top + gable)], depth))
    if rng.random() < 0.5:
        foot = block((0, 0, -depth / 2 - 0.04), (pier + 0.04, rng.uniform(0.06, 0.15), depth / 2 + 0.04))
        parts += mirrored(foot.translate((width / 2 - pier, 0, 0)))
    return union(parts)


def house(rng: np.random.Generator) -> Manifold:
    """Walls, a gable, hip or flat roof, door and windows as recesses, chimney, wing or porch."""
    width, depth, height = rng.uniform(0.6, 1.3), rng.uniform(0.5, 1.1), rng.uniform(0.4, 1.0)
    body = block((-width / 2, 0, -depth / 2), (width / 2, height, depth / 2))
    pitch, eaves, thick = rng.uniform(0.2, 0.6), rng.uniform(0.02, 0.14), rng.uniform(0.03, 0.06)
    kind, parts = rng.random(), [body]
    if kind < 0.65:
        x = width / 2 + eaves
        drop = eaves * pitch / (width / 2)
        roof = plate(
            [
                (-x, height - drop),
                (0, height + pitch),
                (x, height - drop),
                (x, height - drop + thick),
                (0, height + pitch + thick * 1.5),
                (-x, height - drop + thick),
            ],
            depth + 2 * eaves,
        )
        gable = plate([(-width / 2, height - 0.01), (width / 2, height - 0.01), (0, height + pitch)], depth)
        parts += [roof, gable]
    elif kind < 0.85:
        x, z, ridge = width / 2 + eaves, depth / 2 + eaves, rng.uniform(0.0, 0.5) * width / 2 + 0.01
        corners = [(sx * x, height + dy, sz * z) for sx in (1, -1) for sz in (1, -1) for dy in (0.0, -thick)]
        parts.append(
            Manifold.hull_points(np.array([*corners, (ridge, height + pitch, 0), (-ridge, height + pitch, 0)]))
        )
    else:
        rim = block(
            (-width / 2 - eaves, height - 0.02, -depth / 2 - eaves),
            (width / 2 + eaves, height + thick * 2, depth / 2 + eaves),
        )
        parts.append(
            rim
            - block(
                (-width / 2 + thick, height + thick, -depth / 2 + thick),
                (width / 2 - thick, height + 1, depth / 2 - thick),
            )
        )
    if rng.random() < 0.5:
        side, tall = rng.choice([-1, 1]) * width * rng.uniform(0.15, 0.35), height + pitch * rng.uniform(0.9, 1.4)
        parts.append(block((side - 0.06, height * 0.5, -0.06), (side + 0.06, tall, 0.06)))
    if rng.random() < 0.4:
        wide, tall, out = width * rng.uniform(0.3, 0.6), height * rng.uniform(0.4, 0.8), rng.uniform(0.15, 0.4)
        if rng.random() < 0.5:
            parts.append(block((width / 2 - 0.01, 0, -depth * 0.3), (width / 2 + wide, tall, depth * 0.3)))
        else:  # a porch on posts
            z = depth / 2 + out
            parts.append(block((-wide / 2, tall, 0), (wide / 2, tall + 0.05, z)))
            parts += mirrored(block((wide / 2 - 0.05, 0, z - 0.06), (wide / 2, tall + 0.01, z)))
            parts.append(block((-wide / 2, 0, 0), (wide / 2, 0.04, z)))
    recess, cuts = rng.uniform(0.03, 0.06), []
    door = rng.uniform(-0.25, 0.25) * width
    cuts.append(
        block((door - 0.08, 0.04, depth / 2 - recess), (door + 0.08, min(0.36, height * 0.75), depth / 2 + 0.02))
    )
    columns, storeys = int(rng.integers(2, 4)), 1 if height < 0.6 else 2
    size = min(0.07, width / columns * 0.25)
    for x in np.linspace(-0.5, 0.5, columns * 2 + 1)[1::2] * width:
        for storey in range(storeys):
            y = height * (storey + 0.6) / storeys
            if storey == 0 and abs(x - door) < 0.09 + size:
                continue
            cuts.append(box((2 * size, 2.4 * size, 2 * recess), (x, y, depth / 2)))
            cuts.append(box((2 * size, 2.4 * size, 2 * recess), (x, y, -depth / 2)))
    parts[0] = body - union(cuts)
    solid = union(parts)
    if rng.random() < 0.3:
        pole, tall = width / 2 + 0.02, height + pitch
        solid += rod((pole, 0, depth / 2), (pole, tall, depth / 2), 0.1, segments=16) + cylinder(
            0.13, 0.25, (pole, tall - 0.01, depth / 2), top=0.01, segments=16
        )
    return solid


BUILDERS = (bridge, arch, house)
