"""Furniture: chair, table, stool, shelf, sofa, ladder, lamp."""

from __future__ import annotations

import numpy as np
from manifold3d import Manifold

from data.sources.primitives import (
    around,
    ball,
    beam,
    block,
    box,
    circle,
    curve,
    cylinder,
    mirrored,
    plate,
    post,
    rectangle,
    revolve,
    rod,
    slab,
    torus,
    tube,
    union,
)


def _legs(rng: np.random.Generator, width: float, depth: float, height: float, thick: float) -> list[Manifold]:
    """Four legs under a rectangle, upright or splayed, square or round, perhaps with stretchers."""
    round_legs, splay, taper = rng.random() < 0.5, rng.uniform(0, 0.12) * (rng.random() < 0.5), rng.uniform(0.5, 1.0)
    x, z = width / 2 - thick, depth / 2 - thick
    parts = []
    for sx, sz in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        top, foot = (sx * x, height, sz * z), (sx * (x + splay), 0, sz * (z + splay))
        parts.append(post(foot, top, taper * thick, thick, square=not round_legs))
    if rng.random() < 0.4:
        y, bar = height * rng.uniform(0.2, 0.6), thick * rng.uniform(0.35, 0.5)
        reach = splay * (1 - y / height)
        for side in (1, -1):
            parts.append(rod((side * (x + reach), y, -z - reach), (side * (x + reach), y, z + reach), bar, segments=10))
        if rng.random() < 0.6:
            parts.append(rod((-x - reach, y, 0), (x + reach, y, 0), bar, segments=10))
    return parts


def _pedestal(rng: np.random.Generator, radius: float, height: float) -> list[Manifold]:
    """A column on a disc, a cross or three to five feet."""
    stem = rng.uniform(0.06, 0.2) * radius + 0.02
    parts = [cylinder(stem, height, top=stem * rng.uniform(0.6, 1.2))]
    thick, reach = rng.uniform(0.03, 0.06), radius * rng.uniform(0.6, 0.95)
    if rng.random() < 0.5:
        parts.append(cylinder(reach, thick, top=reach * rng.uniform(0.5, 1.0)))
    else:
        foot = rod((0, height * rng.uniform(0.1, 0.35), 0), (reach, thick / 2, 0), thick, thick * 0.6, segments=10)
        parts += around(foot, int(rng.integers(3, 6)), rng.uniform(0, 90))
    return parts


def _back(rng: np.random.Generator, width: float, height: float, thick: float) -> Manifold:
    """A chair back standing on y = 0 in the x-y plane: panel, panel with a hole, slats or rungs."""
    kind, rim = rng.integers(4), rng.uniform(0.04, 0.1)
    outline = rectangle((width, height), (0, height / 2), rng.uniform(0, 0.4) * width)
    base = box((width, rim, thick), (0, rim / 2, 0))  # square where it meets the seat
    if kind == 0:
        return plate(outline, thick) + base
    inner = (max(width - 2 * rim, 0.1), max(height - 2 * rim, 0.1))
    frame = plate(outline - rectangle(inner, (0, height / 2), rng.uniform(0, 0.3) * width), thick) + base
    if kind == 1:
        return frame
    count, bar = int(rng.integers(2, 6)), rng.uniform(0.025, 0.05)
    places = np.linspace(-0.5, 0.5, count + 2)[1:-1]
    if kind == 2:
        bars = [box((bar, height - rim, thick * 0.7), (place * inner[0], height / 2, 0)) for place in places]
    else:
        bars = [box((width - rim, bar, thick * 0.7), (0, height / 2 + place * inner[1], 0)) for place in places]
    return union([frame, *bars])


def chair(rng: np.random.Generator) -> Manifold:
    """Seat, legs or pedestal or side panels, back, perhaps arms."""
    width, depth, height = rng.uniform(0.4, 0.8), rng.uniform(0.4, 0.75), rng.uniform(0.3, 0.65)
    seat_thick, leg = rng.uniform(0.04, 0.12), rng.uniform(0.035, 0.08)
    seat = slab(rectangle((width, depth), corner=rng.uniform(0, 0.3) * depth), seat_thick, height)
    kind = rng.random()
    if kind < 0.65:
        parts = _legs(rng, width, depth, height + seat_thick / 2, leg)
    elif kind < 0.85:
        parts = _pedestal(rng, min(width, depth) / 2, height + seat_thick / 2)
    else:
        panel = box((leg, height + seat_thick / 2, depth * 0.9), (width / 2 - leg, (height + seat_thick / 2) / 2, 0))
        parts = mirrored(panel)
    back_height, thick = rng.uniform(0.3, 0.8), rng.uniform(0.03, 0.08)
    back = _back(rng, width * rng.uniform(0.8, 1.0), back_height, thick).rotate((-rng.uniform(0, 18), 0, 0))
    parts += [seat, back.translate((0, height + seat_thick * 0.3, -depth / 2 + thick / 2))]
    if rng.random() < 0.35:
        rise, bar = rng.uniform(0.15, 0.28), rng.uniform(0.03, 0.06)
        x, y, front = width / 2 - bar / 2, height + seat_thick + rise, depth * rng.uniform(0.2, 0.4)
        arm = block((x - bar / 2, y - bar / 2, -depth / 2), (x + bar / 2, y + bar / 2, front))
        post = block((x - bar / 2, height, front - bar), (x + bar / 2, y, front))
        parts += mirrored(arm + post)
    return union([*parts])


def table(rng: np.random.Generator) -> Manifold:
    """A top of any outline on legs, a pedestal, a trestle or panels; perhaps an apron or a lower shelf."""
    width, depth, height = rng.uniform(0.6, 1.6), rng.uniform(0.5, 1.0), rng.uniform(0.3, 1.0)
    thick, leg = rng.uniform(0.03, 0.1), rng.uniform(0.04, 0.1)
    if rng.random() < 0.3:
        radius = depth / 2
        outline = circle(radius, segments=40).scale((width / depth, 1.0))
        width_in, depth_in = width * 0.68, depth * 0.68  # legs stand inside the ellipse
    else:
        outline = rectangle((width, depth), corner=rng.uniform(0, 0.4) * depth * (rng.random() < 0.5))
        width_in, depth_in = width * rng.uniform(0.75, 0.9), depth * rng.uniform(0.75, 0.9)
    parts, kind = [slab(outline, thick, height)], rng.random()
    top = height + thick / 2
    if kind < 0.6:
        parts += _legs(rng, width_in, depth_in, top, leg)
        if rng.random() < 0.4:
            drop = rng.uniform(0.06, 0.16)
            parts.append(block((-width_in / 2, height - drop, -depth_in / 2), (width_in / 2, top, depth_in / 2)))
        if rng.random() < 0.3:
            y = height * rng.uniform(0.15, 0.4)
            parts.append(box((width_in, 0.04, depth_in), (0, y, 0)))
    elif kind < 0.8:
        parts += _pedestal(rng, depth / 2, top)
    else:
        panel = box((leg, top, depth_in), (width_in / 2 - leg / 2, top / 2, 0))
        rail = box((width_in, leg, leg), (0, height * rng.uniform(0.2, 0.8), 0))
        parts += [*mirrored(panel), rail]
    return union(parts)


def stool(rng: np.random.Generator) -> Manifold:
    """A round seat on three to five splayed legs, tied by a ring or not at all, or on a pedestal."""
    radius, height, thick = rng.uniform(0.18, 0.35), rng.uniform(0.35, 1.1), rng.uniform(0.04, 0.12)
    if rng.random() < 0.5:
        seat = cylinder(radius, thick, (0, height, 0), top=radius * rng.uniform(0.8, 1.0))
    else:
        cushion = thick * rng.uniform(0.3, 0.49)
        seat = torus(radius - cushion, cushion, (0, height + cushion, 0)) + cylinder(
            radius - cushion, thick * 0.8, (0, height, 0)
        )
    if rng.random() < 0.2:
        return union([seat, *_pedestal(rng, radius * 1.1, height + thick / 2)])
    leg, foot, top = rng.uniform(0.02, 0.045), radius * rng.uniform(0.9, 1.5), radius * rng.uniform(0.5, 0.8)
    legs = around(
        rod((foot, 0, 0), (top, height + thick / 2, 0), leg * rng.uniform(0.6, 1), leg, 12), int(rng.integers(3, 6))
    )
    parts = [seat, *legs]
    if rng.random() < 0.6:
        level = rng.uniform(0.25, 0.6)
        parts.append(
            torus(foot + (top - foot) * level * height / (height + thick / 2), leg * 0.7, (0, level * height, 0))
        )
    return union(parts)


def shelf(rng: np.random.Generator) -> Manifold:
    """A case with a grid of open cells of uneven sizes, with or without a back, feet and doors."""
    width, height, depth = rng.uniform(0.5, 1.4), rng.uniform(0.6, 1.8), rng.uniform(0.25, 0.5)
    board, has_back = rng.uniform(0.03, 0.07), rng.random() < 0.6
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    xs = _uneven(rng, columns, width - board) - (width - board) / 2
    ys = _uneven(rng, rows, height - board) + board / 2
    front = depth / 2 + 0.1
    rear = -depth / 2 + (board if has_back else -0.1)
    cells = []
    for i in range(columns):
        for j in range(rows):
            if rng.random() < 0.12:
                continue  # a closed door
            low = (xs[i] + board / 2, ys[j] + board / 2, rear)
            cells.append(block(low, (xs[i + 1] - board / 2, ys[j + 1] - board / 2, front)))
    case = block((-width / 2, 0, -depth / 2), (width / 2, height, depth / 2))
    solid = case - union(cells) if cells else case
    if rng.random() < 0.5:
        rise, foot = rng.uniform(0.05, 0.25), rng.uniform(0.03, 0.06)
        x, z = width / 2 - foot, depth / 2 - foot
        corners = [(sx * x, sz * z) for sx in (1, -1) for sz in (1, -1)]
        feet = [post((x, -rise, z), (x, board / 2, z), foot * 0.7, foot, square=True) for x, z in corners]
        solid = union([solid, *feet])
    return solid


def _uneven(rng: np.random.Generator, count: int, length: float) -> np.ndarray:
    """count + 1 places from 0 to length, their gaps at most about one to two."""
    gaps = rng.uniform(1.0, 2.0, count)
    return np.concatenate([[0.0], np.cumsum(gaps)]) * length / gaps.sum()


def sofa(rng: np.random.Generator) -> Manifold:
    """A seat box with cushions, a back, arms and short legs."""
    width, depth, height = rng.uniform(0.7, 2.0), rng.uniform(0.6, 0.9), rng.uniform(0.2, 0.4)
    back, thick = rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.22)
    parts = [block((-width / 2, 0, -depth / 2), (width / 2, height, depth / 2))]
    lean = box((width, back + 0.1, thick), (0, back / 2, 0)).rotate((-rng.uniform(0, 15), 0, 0))
    parts.append(lean.translate((0, height, -depth / 2 + thick / 2)))
    if rng.random() < 0.85:
        arm, rise = rng.uniform(0.08, 0.22), rng.uniform(0.1, 0.35)
        body = block((width / 2 - 0.02, 0, -depth / 2), (width / 2 + arm, height + rise, depth / 2))
        if rng.random() < 0.5:
            body += rod(
                (width / 2 + arm / 2, height + rise, -depth / 2),
                (width / 2 + arm / 2, height + rise, depth / 2),
                arm * 0.6,
            )
        parts += mirrored(body)
    count, plump = int(rng.integers(1, 4)), rng.uniform(0.06, 0.14)
    cushion = slab(rectangle((width / count * 0.94, depth - thick * 0.5), corner=0.06), plump + 0.05, height - 0.05)
    parts += [cushion.translate(((i + 0.5) * width / count - width / 2, 0, thick * 0.3)) for i in range(count)]
    rise, leg = rng.uniform(0.04, 0.18), rng.uniform(0.04, 0.08)
    for sx in (1, -1):
        for sz in (1, -1):
            x, z = sx * (width / 2 - leg), sz * (depth / 2 - leg)
            parts.append(post((x, -rise, z), (x, 0.05, z), leg * 0.7, leg))
    return union(parts)


def ladder(rng: np.random.Generator) -> Manifold:
    """Two rails with rungs, straight, tapered or as an A-frame."""
    height, width, top = rng.uniform(1.0, 2.0), rng.uniform(0.4, 0.8), rng.uniform(0.6, 1.0)
    rail, rung, count = rng.uniform(0.05, 0.1), rng.uniform(0.02, 0.045), int(rng.integers(3, 9))
    x0, x1 = width / 2, width / 2 * top
    flat_rungs = rng.random() < 0.4
    parts = mirrored(beam((x0, 0, 0), (x1, height, 0), rail))
    for i in range(count):
        level = (i + 0.7) / (count + 0.4)
        x, y = x0 + (x1 - x0) * level, level * height
        bar = box((2 * x, rung, rail * 1.4), (0, y, 0)) if flat_rungs else rod((-x, y, 0), (x, y, 0), rung, segments=10)
        parts.append(bar)
    flight = union(parts)
    if rng.random() < 0.5:
        return flight
    angle = rng.uniform(8, 22)
    front = flight.translate((0, -height, 0)).rotate((-angle, 0, 0))
    rear = mirrored(beam((x0, -height, 0), (x1, 0, 0), rail * 0.8))
    rear = union([*rear, rod((-x0, -height * 0.8, 0), (x0, -height * 0.8, 0), rung)])
    hinge = box((2 * x1 + rail, rail * 1.5, rail * 2.5))
    return union([front, rear.rotate((angle, 0, 0)), hinge])


def lamp(rng: np.random.Generator) -> Manifold:
    """A foot, a straight or bent stem and a thin open shade, or a globe."""
    height, foot, stem = rng.uniform(0.5, 1.8), rng.uniform(0.15, 0.35), rng.uniform(0.018, 0.045)
    thick = rng.uniform(0.03, 0.07)
    parts = [cylinder(foot, thick, top=foot * rng.uniform(0.4, 1.0))]
    if rng.random() < 0.4:
        reach = rng.uniform(0.2, 0.5)
        path = curve([(0, 0, 0), (0, height * 1.3, 0), (0, height * 1.4, reach), (0, height, reach)], 20)
        parts.append(tube(path, stem, 10))
        end = np.array([0, height, reach])
    else:
        parts.append(cylinder(stem, height, segments=16))
        end = np.array([0, height, 0])
        if rng.random() < 0.3:
            parts.append(_belly(rng, foot, height))
    radius, deep = rng.uniform(0.15, 0.4), rng.uniform(0.15, 0.4)
    if rng.random() < 0.25:
        return union([*parts, ball(radius * 0.8, end)])
    top, wall = radius * rng.uniform(0.3, 1.0), rng.uniform(0.02, 0.035)
    low, high = -deep * 0.7, deep * 0.3
    profile = [(radius, low), (top, high), (top - wall, high), (radius - wall, low)]
    shade = revolve(profile)
    level = radius + (top - radius) * 0.7 - wall / 2  # radius of the shade at y = 0, where its spider holds it
    spider = around(rod((0, 0, 0), (level, 0, 0), max(wall / 2, 0.012), segments=8), int(rng.integers(3, 5)))
    bulb = ball(top * 0.35, (0, 0, 0), 20)
    return union([*parts, *(part.translate(tuple(end)) for part in (shade, bulb, *spider))])


def _belly(rng: np.random.Generator, foot: float, height: float) -> Manifold:
    """The belly of a table lamp, around its stem."""
    half = height * rng.uniform(0.2, 0.38)
    return (
        Manifold.sphere(1.0, 32)
        .scale((foot * rng.uniform(0.5, 1.0), half, foot * rng.uniform(0.5, 1.0)))
        .translate((0, half, 0))
    )


BUILDERS = (chair, table, stool, shelf, sofa, ladder, lamp)
