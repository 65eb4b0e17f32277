"""`python -m evaluation backends`, and the options with which other commands choose one."""

from __future__ import annotations

import argparse

BACKENDS = ("auto", "cpu", "pytorch3d", "kaolin")
SAMPLERS = ("cpu", "backend")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare --backend and --sampler."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="who finds nearest neighbours and what lies inside (default: %(default)s)",
    )
    parser.add_argument(
        "--sampler", choices=SAMPLERS, default="cpu", help="who draws the surface samples (default: %(default)s)"
    )


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "backends",
        help="what finds nearest neighbours, tells inside from outside and draws meshes on this machine",
        description="List the CPU path, pytorch3d and kaolin: what is installed, which version, and where each project "
        "says how to install it; then every use, and what a scoring with these options uses for it on this machine.",
    )
    add_options(parser)
    parser.add_argument(
        "--check", action="store_true", help="also compare what can be used with the CPU path: numbers and seconds"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print what is found; returns the exit status: 1 if a check differs."""
    from evaluation import backends

    choice, differs = backends.choose(arguments.backend, arguments.sampler), False
    for name in BACKENDS[1:]:
        found = backends.look(name)
        state = "used" if name == choice.backend else "usable" if found.usable else found.why_not
        print(f"{name:10s} {found.version or '-':14s} {state}; installation: {backends.INSTALLATION[name]}")
        if arguments.check and found.usable and name != "cpu":
            differs |= not check(name)
    print(f"\nused here with --backend {arguments.backend} --sampler {arguments.sampler}:")
    for use, functions in backends.USES.items():
        who = choice.of(use)
        print(f"  {use:12s}  {choice.named() if who != 'cpu' else who}: {functions[who]}")
    print(f"  {'FlexiCubes':12s}  {flexicubes()}")
    return int(differs)


def flexicubes() -> str:
    """What extracts the meshes of the variants `flexicubes`, whatever the backend; or why nothing can."""
    from evaluation import backends

    version = backends.installed_version("kaolin")
    if version is None:
        return "none: kaolin is not installed; only variants named flexicubes need it"
    from evaluation import accelerated

    why = accelerated.not_importable("kaolin")
    return (
        f"none: kaolin {why}" if why else f"kaolin {version}: ops.conversions.FlexiCubes, of variants named flexicubes"
    )


TOLERANCE = 1e-5
"""Of any metric, between a backend and the CPU path."""


def check(name: str) -> bool:
    """Print how a usable backend compares with the CPU path; whether its numbers agree."""
    from evaluation import accelerated, backends

    difference = neighbour_difference(name)
    print(f"{'':10s} largest difference of a metric from the CPU path: {difference:.1e}")
    cells = 0
    if name in backends.USES[backends.INSIDE]:
        cells, inside = cells_that_differ(name)
        print(f"{'':10s} cells of {GRID}^3 that differ from the CPU path: {cells} of {inside}")
    n = 100_000 if accelerated.device() == "cuda" else 2_000
    by_cpu, by_backend = seconds_of_search("cpu", n), seconds_of_search(name, n)
    print(f"{'':10s} a search of {n:,} points among as many: {by_backend:.3f} s, CPU path {by_cpu:.3f} s")
    return difference <= TOLERANCE and cells == 0


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
            clouds = [surface.sample(vertices * s, faces, 2000, numpy_rng("backends", s)) for s in (1.0, 1.05)]
            near = metrics.nearest(*clouds, metrics.Transform.identity())
            rows.append(list(metrics.surface_metrics(near, (0.05, 0.2)).values()))
    return float(np.abs(np.subtract(*rows)).max())


GRID = 16
"""Cells of a side for the comparison of inside tests."""


def cells_that_differ(name: str) -> tuple[int, int]:
    """Cells that a backend and the CPU path call differently, and those inside by the CPU path, of two octahedra that
    overlap."""
    import numpy as np

    from evaluation import backends, occupancy

    ends = np.array([[0.9, 0.1, 0.2], [-0.1, 0.8, 0.3], [-0.2, -0.3, 0.85]])
    octahedron = np.concatenate([ends, -ends])
    faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    vertices = np.concatenate([octahedron * 0.7, octahedron * 0.5 + 0.2])
    grids = []
    for choice in (backends.CPU, backends.Choice(name, "cpu")):
        with backends.using(choice):
            faces_of_both = np.concatenate([faces, faces + len(octahedron)])
            grids.append(occupancy.occupancy(vertices, faces_of_both, GRID, watertight=True))
    return int(np.count_nonzero(grids[0] != grids[1])), int(np.count_nonzero(grids[0]))


def seconds_of_search(name: str, n: int) -> float:
    """Seconds in which a backend, or `cpu`, makes an index of n points and finds the nearest to each of n others."""
    import time

    from core.randomness import numpy_rng
    from evaluation import backends

    points, among = numpy_rng("backends", "seconds").uniform(-1, 1, size=(2, n, 3))
    with backends.using(backends.Choice(name, "cpu")):
        for _ in range(2):  # the first one loads the library
            start = time.perf_counter()
            backends.index(among).query(points)
            seconds = time.perf_counter() - start
    return seconds
