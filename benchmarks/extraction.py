"""Meshes from latents: coarse to fine against the dense grid, in queries, seconds, and the mesh that comes out."""

from __future__ import annotations

from typing import Any

from benchmarks import extraction_time
from benchmarks.extraction_same import agreement, other_settings
from benchmarks.growth import Curve
from benchmarks.networks import params_of
from benchmarks.options import Options
from benchmarks.result import Outcome
from benchmarks.shapes import shapes

SUMMARY = "mesh extraction from latents: decoder queries and marching cubes"


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    settings = settings_of(options)
    resolutions, clocked = ((64,), (64,)) if options.quick else ((128, 256, 512), (256, 512))
    rows = [row for cells in resolutions for row in agreement(cells, settings)]
    rows += [row for cells in clocked for row in extraction_time.timed(cells, settings, options)]
    return Outcome("extraction", tuple(rows), growth(options), (
        f"Coarse to fine begins at or above {settings['coarsest']} cells, where a logit is taken to change by up"
        f" to {settings['change']} along an edge, and by half as much on the next grid: the middle of an edge that may"
        " cross 0 is asked for.",
        "Seconds are those of a network of this scale whose answers are replaced by a closed form's: what is asked, and"
        " the mesh, are those of the shape, the cost is the network's.",
        "The certificate of benchmarks/faithful.py proves that no component can be lost, from how much the field"
        " changes along the edges of the last grid: known of a closed form, of a decoder measured on the dense grid."
        " Where it does not hold, a row says which change would give it, and what was lost was found by comparing.",
        other_settings(resolutions[0], settings, shapes()[-3:]),
    ))  # fmt: skip


def growth(options: Options) -> tuple[Curve, ...]:
    """Whole extractions and their queries against the resolution."""
    return extraction_time.growth(settings_of(options), options)


def settings_of(options: Options) -> dict[str, Any]:
    """`coarsest` and `change`, as the method has them; a coarser first grid for the tiny sizes."""
    params = params_of("mar3d", options)["extraction"]
    return {"coarsest": 16 if options.quick else params["coarsest"], "change": params["change"]}
