"""Shapes with known answers, and a small protocol, for the tests of the evaluation room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from evaluation import load, protocol


def boxes(*parts: tuple[tuple[float, float, float], tuple[float, float, float]]) -> load.Triangles:
    """Axis-aligned boxes given by (low corner, high corner), as one mesh of closed parts."""
    meshes = [trimesh.creation.box(bounds=part) for part in parts]
    mesh = trimesh.util.concatenate(meshes)
    return load.clean(mesh.vertices, mesh.faces)


@pytest.fixture(scope="session")
def chiral() -> load.Triangles:
    """Three arms of different length along the axes: no proper rotation maps its mirror image onto it."""
    return boxes(
        ((-0.9, -0.6, -0.45), (0.9, -0.3, -0.2)),
        ((-0.9, -0.5, -0.44), (-0.6, 0.6, -0.21)),
        ((-0.89, -0.59, -0.4), (-0.7, -0.4, 0.45)),
    )


@pytest.fixture(scope="session")
def sphere() -> Callable[[float], load.Triangles]:
    """Spheres of a given radius, fine enough (80,000 faces) to count as round."""
    ball = trimesh.creation.icosphere(subdivisions=6)
    return lambda radius: load.clean(np.asarray(ball.vertices) * radius, ball.faces)


@pytest.fixture(scope="session")
def box_parts() -> Callable[..., load.Triangles]:
    """The function `boxes` of this file."""
    return boxes


@pytest.fixture(scope="session")
def still() -> protocol.Protocol:
    """v1 at 10,000 points, without normalisation, so that sizes and turns mean what they say."""
    return replace(protocol.load("v1"), normalise="none", points=10_000, viou=(32,))


@pytest.fixture(scope="session")
def tiny() -> protocol.Protocol:
    """A protocol quick enough for property tests."""
    full = protocol.load("v1")
    align = replace(full.align, yaw_steps=8, subset=200, icp_points=500, keep=2)
    return replace(full, normalise="none", points=1000, viou=(), align=align)
