"""`python -m evaluation backends`, and the options with which other commands choose one."""

from __future__ import annotations

import argparse

BACKENDS = ("auto", "cpu", "pytorch3d", "kaolin")
SAMPLERS = ("cpu", "backend")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare --backend and --sampler."""
    parser.add_argument(
        "--backend", choices=BACKENDS, default="auto", help="who finds nearest neighbours (default: %(default)s)"
    )
    parser.add_argument(
        "--sampler", choices=SAMPLERS, default="cpu", help="who draws the surface samples (default: %(default)s)"
    )


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "backends",
        help="what finds nearest neighbours and draws meshes on this machine",
        description="List the CPU path, pytorch3d and kaolin: what is installed, which version, what is used, and "
        "where each project says how to install it.",
    )
    parser.add_argument("--check", action="store_true", help="also compare what can be used with the CPU path")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what is found; returns the exit status: 1 if a check differs."""
    from evaluation import backends

    used, differs = backends.automatic(), False
    for name in BACKENDS[1:]:
        found = backends.look(name)
        state = "used" if name == used else "usable" if found.usable else found.why_not
        print(f"{name:10s} {found.version or '-':14s} {state}; installation: {backends.INSTALLATION[name]}")
        if arguments.check and found.usable and name != "cpu":
            difference = neighbour_difference(name)
            differs |= difference > TOLERANCE
            print(f"{'':10s} largest difference of a metric from the CPU path: {difference:.1e}")
    return int(differs)


TOLERANCE = 1e-5
"""Of any metric, between a backend and the CPU path."""


def neighbour_difference(name: str) -> float:
    """The largest difference of any surface metric between a backend and the CPU path, for two made-up clouds."""
    import numpy as np

    from core.randomness import numpy_rng
    from evaluation import backends, metrics, surface

    rng = numpy_rng("backends", "check")
    vertices, faces = rng.normal(size=(60, 3)), rng.integers(60, size=(80, 3))
    rows = []
    for choice in (backends.CPU, backends.Choice(name, "cpu")):
        with backends.using(choice):
            clouds = [surface.sample(vertices * s, faces, 5000, numpy_rng("backends", s)) for s in (1.0, 1.05)]
            near = metrics.nearest(*clouds, metrics.Transform.identity())
            rows.append(list(metrics.surface_metrics(near, (0.05, 0.2)).values()))
    return float(np.abs(np.subtract(*rows)).max())
