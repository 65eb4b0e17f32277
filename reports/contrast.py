"""Inequalities between settings, as claims state them: `mar3d/full > mar3d/no_pyramid`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.errors import UserError

_TERM = re.compile(r"\s*([+-]?)\s*(\d+(?:\.\d+)?)?\s*\*?\s*([a-z][a-z0-9_]*/[a-z][a-z0-9_]*)")


@dataclass(frozen=True)
class Contrast:
    """The left side minus the right side. weights: by setting, they sum to 0; sign: 1 for `>`, -1 for `<`."""

    weights: dict[str, float]
    sign: int


def parse(text: str) -> Contrast:
    """Read sums of settings, each with an optional number before it, and one `<` or `>` between them.

    Raises UserError for anything else, and where the weights do not cancel: then the effect would depend on the level
    of the scores and not on how the settings differ.
    """
    sides = re.split("[<>]", text)
    if len(sides) != 2:
        raise UserError(f"{text!r} is not an inequality: write one < or > between settings, as in a/full > b/full")
    weights: dict[str, float] = {}
    for side, factor in zip(sides, (1.0, -1.0), strict=True):
        position = 0
        while side[position:].strip():
            term = _TERM.match(side, position)
            if term is None or (position and not term[1]):
                raise UserError(
                    f"{text!r}: expected + or - and a setting (method/variant) at {side[position:].strip()!r}"
                )
            sign, number, name = term.groups()
            weight = factor * float(number or 1) * (-1 if sign == "-" else 1)
            weights[name] = weights.get(name, 0.0) + weight
            position = term.end()
    weights = {name: weight for name, weight in weights.items() if weight}
    if not weights or abs(sum(weights.values())) > 1e-9:
        raise UserError(f"{text!r}: the weights of both sides must be settings and cancel, as in a/full > b/full")
    return Contrast(weights, 1 if ">" in text else -1)
