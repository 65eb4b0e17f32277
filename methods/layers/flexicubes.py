"""FlexiCubes (Shen et al., SIGGRAPH 2023) of kaolin, where it is installed: the other way from logits to a mesh.

Flexible cubes are meant to be optimised: weights of corners and edges move each vertex within its cube. A decoded field
has no such weights, and with equal ones they are dual marching cubes: one vertex or more in each cube that the surface
crosses, at the mean of the crossings of its edges, and a quadrilateral around each crossed edge. The mesh has fewer
slivers than that of marching cubes and is a manifold; sharp edges are cut off by less than a cube.

kaolin can instead place vertices where the planes of the field's gradients meet (`grad_func`), which keeps sharp edges.
That is not used here: see docs/deviations.md.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from methods.layers.extraction import closed, in_box

INSTALLATION = "https://kaolin.readthedocs.io/en/latest/notes/installation.html"

CORNERS = [(x, y, z) for z, y, x in itertools.product((0, 1), repeat=3)]
"""Of a cube, in kaolin's order: x changes first."""


def of_kaolin() -> type:
    """kaolin's class `FlexiCubes`. Raises ImportError, with what to install, where it is not here."""
    try:
        from kaolin.ops.conversions import FlexiCubes
    except (ImportError, OSError, RuntimeError) as error:  # also what was built for another torch fails to load
        why = str(error).splitlines()[0]
        raise ImportError(
            f"extraction.surface: flexicubes needs kaolin, which cannot be imported here ({why}): install it as"
            f" {INSTALLATION} says"
        ) from error
    return FlexiCubes


@torch.no_grad()
def surface(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """FlexiCubes at level 0 of logits (n, n, n), positive inside; what it returns is that of `extraction.surface`.

    It runs on the CPU, where the values are: on a GPU its sums would not have the same bits twice. It is given the
    cubes of the least box that holds all crossed ones, and not these alone, since it tells ambiguous cubes by their
    neighbours in a whole grid: 255 bytes a cube were measured at 128^3, so 4.3 GB for all of 256^3.
    """
    found = closed(values)
    if found is None:
        return None
    part, corner = found
    field = torch.from_numpy(-part)  # negative inside
    sides = [n - 1 for n in field.shape]
    numbers = torch.arange(field.numel()).reshape(field.shape)
    cubes = torch.stack([numbers[tuple(map(_shifted, corner, sides))].reshape(-1) for corner in CORNERS], 1)
    nodes = torch.cartesian_prod(*(torch.arange(side, dtype=torch.float32) for side in field.shape))
    vertices, faces, _ = of_kaolin()(device="cpu")(nodes, field.reshape(-1), cubes, sides)
    return in_box(vertices.numpy() + corner, len(values)), faces.numpy().astype(np.int32)


def _shifted(start: int, side: int) -> slice:
    """Of the nodes along an axis, those at the lower (0) or upper (1) end of its cubes."""
    return slice(start, start + side)
