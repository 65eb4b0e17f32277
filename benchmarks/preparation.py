"""Preparing objects at the full recipe: objects a second and core, by stage, by worker, and memory."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.growth import Curve
from benchmarks.measure import interleaved, spread, stages
from benchmarks.options import Options
from benchmarks.preparation_peers import beside_peers, embree_alone, normalised
from benchmarks.result import Outcome, Row, Target
from core.errors import UserError
from data.prepare import check_params
from data.sources import ObjectSpec, list_objects, load

SUMMARY = "preparing a mesh: watertight solid, points, occupancy labels, views"
RECIPE = {
    "points": 16384,  # and its first quarter and sixteenth: the three levels
    "volume": 131072,
    "near": 131072,  # with `volume` 4 x 65536 labels
    "grid": 128,
    "azimuths": 8,
    "rotations": 6,  # 8 x (1 + 6) = 56 views
    "image_size": 224,
}
EACH, COMPARED = 4, 3
"""Meshes that each worker prepares in a round; meshes on which peers are measured."""
QUICK = {"points": 512, "volume": 1024, "near": 1024, "grid": 48, "azimuths": 2, "rotations": 1, "image_size": 32}
STAGES = {
    "load": "mesh made or read",
    "make_solid": "watertight solid",
    "sample_surface": "surface points",
    "query_positions": "query positions",
    "inside": "occupancy labels",
    "render": "views: rays",
    "encode_image": "views: WebP",
    "decimated": "stored mesh",
}


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    params = recipe(options)
    with tempfile.TemporaryDirectory() as folder:
        source, specs = objects(options, 2 if options.quick else 12, Path(folder))
        rows = [_alone(specs, source, params), *_with_workers(specs[:EACH], source, params)]
        rows += beside_peers([load(spec, source) for spec in specs[:COMPARED]], params)
    told = QUICK if options.quick else RECIPE
    origin = f"the folder {options.meshes.name!r} (--meshes)" if options.meshes else "the procedural source"
    notes = [
        f"Recipe: {', '.join(f'{name} {value}' for name, value in told.items())}; {len(specs)} meshes of {origin}."
    ]
    if not options.meshes:
        notes.append(
            "Procedural objects are written as PLY files first, so that they are read, and made watertight on the grid,"
            " as anyone's meshes are; what is known of them as exact solids is not used."
        )
    return Outcome("preparation", tuple(rows), growth(options), tuple(notes))


def recipe(options: Options, **changes: Any) -> dict[str, Any]:
    """Parameters of one training object."""
    params = check_params({**(QUICK if options.quick else RECIPE), **changes})
    params.pop("val_rotations")
    return params


def objects(options: Options, count: int, folder: Path) -> tuple[dict[str, Any], list[ObjectSpec]]:
    """A source and `count` of its objects, evenly spread; procedural ones are written into `folder` first."""
    if options.meshes is None:
        write_procedural(folder, count)
    root = options.meshes or folder
    source = {"source": "folder", "root": str(root)}
    if (root / "index.csv").is_file():
        source["index"] = "index.csv"
    specs = list_objects(source)
    if len(specs) < count:
        raise UserError(f"{root} has {len(specs)} meshes, the benchmark needs {count}: name a larger folder")
    return source, [specs[i * len(specs) // count] for i in range(count)]


def write_procedural(folder: Path, count: int) -> None:
    """The first `count` procedural objects, each of another family, as PLY files."""
    import trimesh

    from data.sources.procedural import make

    for spec in list_objects({"source": "procedural", "counts": {"train": count}}):
        mesh = make(spec.object)
        trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(folder / f"{spec.object}.ply")


def prepare(specs: Sequence[ObjectSpec], source: dict[str, Any], params: dict[str, Any]) -> tuple[list[float], int]:
    """Seconds of each object that could be prepared, and the most memory that this process had so far, in bytes."""
    from data.load import BadMesh
    from data.objects import prepare_object

    taken = []
    for spec in specs:
        start = time.perf_counter()
        try:
            prepare_object(spec, source, params, dataset="benchmarks")
        except BadMesh:
            continue
        taken.append(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024
    return taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _alone(specs: list[ObjectSpec], source: dict[str, Any], params: dict[str, Any]) -> Row:
    """One process: the rate, and where its seconds go."""
    from data import objects as module
    from data.render import Scene
    from data.watertight import Solid

    prepare(specs[:1], source, params)  # imports
    owners = {"inside": Solid, "render": Scene}
    with stages(*((owners.get(name, module), name) for name in STAGES)) as spent:
        taken, _ = prepare(specs, source, params)
    if not taken:
        raise UserError("none of the objects could be prepared: name another folder of meshes")
    total = sum(taken)
    parts = ", ".join(f"{what} {spent[name] / total:.0%}" for name, what in STAGES.items())
    rate, views = len(taken) / total, params["azimuths"] * (1 + params["rotations"])
    rays, seconds = embree_alone([load(spec, source) for spec in specs[:COMPARED]], params)
    return Row(
        "one object, one process",
        "s",
        spread(taken),
        limit=f"by stage: {parts}; Embree alone casts the {views * rays / 1e6:.1f} million rays of {views} views in"
        f" {views * seconds:.2f} s; left out as bad meshes: {len(specs) - len(taken)} of {len(specs)}",
        targets=(Target("objects a second and core", 0.5, rate),),
    )


def _ready(barrier: Any, specs: list[ObjectSpec], source: dict[str, Any], params: dict[str, Any]) -> None:
    """Make a worker ready: what is imported for the first object is not timed, and all begin together."""
    prepare(specs, source, params)
    barrier.wait()


def _with_workers(specs: list[ObjectSpec], source: dict[str, Any], params: dict[str, Any]) -> list[Row]:
    """All objects by 1, 2, … as many processes as there are cores, in alternating rounds; memory of the largest."""
    counts = sorted({1, 2, machine.cores()} & set(range(1, machine.cores() + 1)))
    done: dict[int, list[int]] = {count: [] for count in counts}
    memory = dict.fromkeys(counts, 0)
    with ExitStack() as stack:
        pools = {count: stack.enter_context(_pool(count, specs[:1], source, params)) for count in counts}

        def prepare_all(count: int) -> None:
            # Whole rounds of all objects, so that each worker has as much to do.
            jobs = [pools[count].submit(prepare, [spec], source, params) for spec in specs * count]
            results = [job.result() for job in jobs]
            done[count].append(sum(len(taken) for taken, _ in results))
            memory[count] = max(memory[count], *(used for _, used in results))

        calls = {count: partial(prepare_all, count) for count in counts}
        taken = interleaved(calls, rounds=3, warm_up=0)
    rates = {count: [n / seconds for n, seconds in zip(done[count], taken[count], strict=True)] for count in counts}
    return [_worker_row(count, done[count][0], rates, memory[count]) for count in counts]


def _pool(count: int, specs: list[ObjectSpec], source: dict[str, Any], params: dict[str, Any]) -> ProcessPoolExecutor:
    """So many processes, all started and ready."""
    context = multiprocessing.get_context("spawn")
    begin = (context.Barrier(count), specs, source, params)
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_ready, initargs=begin)
    for job in [pool.submit(prepare, [], source, params) for _ in range(count)]:  # one starts each worker
        job.result()
    return pool


def _worker_row(count: int, objects: int, rates: Mapping[int, Sequence[float]], memory: int) -> Row:
    shares = spread([many / one / count for many, one in zip(rates[count], rates[1], strict=True)])
    targets = (Target("memory of a worker", 1024.0, memory / 2**20, "at most", "MiB"),)
    if count > 1:
        targets += (Target(f"rate, over {count} times that of one worker", 0.9, shares.median),)
    limit = f"{shares.median:.0%} [{shares.low:.0%}, {shares.high:.0%}] of {count} times one worker in the same round"
    what = f"{count} worker{'s' if count > 1 else ''}, {objects} objects a round"
    return Row(what, "objects/s", spread(rates[count]), limit=limit if count > 1 else "", targets=targets)


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds of the three large stages for one chair: against the grid, the pixels, the query positions."""
    from data.quantise import query_positions
    from data.render import Scene
    from data.views import fit_view, plan_views
    from data.watertight import make_solid

    with tempfile.TemporaryDirectory() as folder:
        source, specs = objects(Options(), 1, Path(folder))
        raw = normalised(load(specs[0], source))
    rng = np.random.default_rng(0)
    (pose,) = plan_views(1, 0, rng, 0.0)
    view, scene = fit_view(pose, raw.vertices), Scene(raw.vertices, raw.faces)
    solid = make_solid(raw, 96)
    places = rng.uniform(-1, 1, (16384, 3)).astype(np.float32)
    grids, sides, counts = (48, 64, 96, 128, 192), (112, 224, 448, 896, 1792), (2**13, 2**14, 2**15, 2**16, 2**17)
    if options.quick:
        grids, sides, counts = (48, 56, 64, 72, 80), (32, 64, 128, 256, 512), (256, 512, 1024, 2048, 4096)

    def label(n: int) -> None:
        positions = query_positions(places, seed=0, volume=n, near=n, sigmas=(0.02, 0.1))
        solid.inside(positions)

    return (
        _curve("watertight solid", "cells a side", grids, lambda n: make_solid(raw, n), 3.0, "nodes of a grid"),
        _curve("rays of a view", "pixels a side", sides, lambda n: scene.render(view, n), 2.0, "pixels"),
        _curve(
            "occupancy labels", "queries", tuple(2 * n for n in counts), lambda n: label(n // 2), 1.0, "each by itself"
        ),
    )


def _curve(
    label: str, size: str, sizes: tuple[int, ...], call: Callable[[int], Any], theory: float, why: str
) -> Curve:  # fmt: skip
    taken = interleaved({n: partial(call, n) for n in sizes}, rounds=5, seconds=8)
    return Curve(label, size, "s", sizes, tuple(spread(taken[n]) for n in sizes), theory, why)
