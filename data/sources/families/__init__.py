"""The parametric families: each a function from a generator to a solid, +Y up, front towards +Z.

Proportions are drawn from wide ranges and the kinds of parts are mixed freely, so that the name says what the
object is and little about its shape.
"""

from __future__ import annotations

from data.sources.families import composed, furniture, mechanical, structures, vehicles, vessels

BUILDERS = {
    builder.__name__: builder
    for builder in (
        *furniture.BUILDERS, *vessels.BUILDERS, *mechanical.BUILDERS, *vehicles.BUILDERS, *structures.BUILDERS,
        *composed.BUILDERS,
    )
}  # fmt: skip
MANY_PIECES = {"chain"}  # the links of a chain do not touch; everything else is one piece
