"""Preparing objects at the full recipe: objects a second and core, by stage, by worker, and memory."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import machine, peers
from benchmarks.growth import Curve
from benchmarks.measure import Spread, interleaved, ratios, spread, stages
from benchmarks.options import Options
from benchmarks.result import Equality, Outcome, Row, Target
from core.errors import UserError
from data.prepare import check_params
from data.sources import ObjectSpec, list_objects

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
        rows = [_alone(specs, source, params), *_with_workers(specs, source, params, options)]
    rows += [_watertight(options), _rays(options)]
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
    rate = len(taken) / total
    return Row(
        "one object, one process",
        "s",
        spread(taken),
        limit=f"by stage: {parts}",
        targets=(Target("objects a second and core", 0.5, rate),),
        tried=f"{len(specs) - len(taken)} of {len(specs)} objects were left out as bad meshes.",
    )


def _ready(barrier: Any, specs: list[ObjectSpec], source: dict[str, Any], params: dict[str, Any]) -> None:
    """Make a worker ready: what is imported for the first object is not timed, and all begin together."""
    prepare(specs, source, params)
    barrier.wait()


def _with_workers(
    specs: list[ObjectSpec], source: dict[str, Any], params: dict[str, Any], options: Options
) -> list[Row]:
    """All objects by 1, 2, … as many processes as there are cores; memory of the largest."""
    rows, alone = [], 0.0
    counts = sorted({1, 2, machine.cores()} & set(range(1, machine.cores() + 1)))
    for count in counts:
        context = multiprocessing.get_context("spawn")
        begin = (context.Barrier(count), specs[:1], source, params)
        with ProcessPoolExecutor(count, mp_context=context, initializer=_ready, initargs=begin) as pool:
            for job in [pool.submit(prepare, [], source, params) for _ in range(count)]:  # one starts each worker
                job.result()
            start = time.perf_counter()
            # Whole rounds of all objects, so that each worker has as much to do.
            jobs = [pool.submit(prepare, [spec], source, params) for spec in specs * count]
            results = [job.result() for job in jobs]
            seconds = time.perf_counter() - start
        done, memory = sum(len(taken) for taken, _ in results), max(memory for _, memory in results)
        rate = done / seconds
        alone = alone or rate
        rows.append(
            Row(
                f"{count} worker{'s' if count > 1 else ''}, {done} objects",
                "objects/s",
                Spread(rate, rate, rate, 1),
                limit=f"{rate / alone / count:.0%} of {count} times one worker; largest {memory / 2**20:.0f} MiB",
                targets=(
                    Target("memory of a worker", 1024.0, memory / 2**20, "at most", "MiB"),
                    Target("of so many times one worker", 0.9, rate / alone / count),
                ),
            )
        )
    return rows


def _watertight(options: Options) -> Row:
    """Our solid beside point-cloud-utils' manifold at about the same resolution, on open meshes."""
    what, peer = "watertight solid of an open mesh", "point-cloud-utils"
    if not peers.installed("point_cloud_utils"):
        return Row(what, "s", None, peer, peer_status=peers.NOT_INSTALLED)
    import numpy as np
    import point_cloud_utils

    from data.load import RawMesh
    from data.watertight import make_solid

    vertices, faces = open_bowl()
    grid = 48 if options.quick else RECIPE["grid"]
    # Its resolution is a number of leaves of an octree over the surface: about as many cells as our grid has there.
    calls = {
        "theirs": lambda: point_cloud_utils.make_mesh_watertight(vertices, faces, resolution=grid**2),
        "ours": lambda: make_solid(RawMesh(vertices, faces, solid=False), grid).mesh(),
    }
    taken = interleaved(calls, rounds=5, seconds=20)
    (their_vertices, _), (our_vertices, _) = calls["theirs"](), calls["ours"]()
    apart = np.abs(np.ptp(their_vertices, axis=0) - np.ptp(our_vertices, axis=0)).max()
    return Row(
        what, "s", spread(taken["ours"]), peer, spread(taken["theirs"]), ratio=ratios(taken["theirs"], taken["ours"]),
        equality=Equality("bounding boxes, in cells", float(apart) * grid / 2.1, 4.0),
    )  # fmt: skip


def _rays(options: Options) -> Row:
    """Rays of a picture by Embree, as the renderer casts them, beside trimesh's own ray engine."""
    what, peer = "rays of one picture", "trimesh's own ray engine"
    if not peers.installed("rtree"):
        return Row(what, "s", None, peer, peer_status=f"{peers.NOT_INSTALLED} (it needs rtree)")
    import numpy as np
    import trimesh
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene
    from trimesh.ray.ray_triangle import RayMeshIntersector

    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.95)
    side = np.linspace(-1, 1, 16 if options.quick else 64)
    start = np.stack([*np.meshgrid(side, side), np.full((len(side),) * 2, 2.0)], -1).reshape(-1, 3)
    towards = np.tile([0.0, 0.0, -1.0], (len(start), 1))
    scene = EmbreeScene(robust=True)
    TriangleMesh(scene, ball.vertices.astype(np.float32), ball.faces.astype(np.int32))
    theirs = RayMeshIntersector(ball)
    calls = {
        "theirs": lambda: theirs.intersects_first(start, towards) >= 0,
        "ours": lambda: scene.run(start.astype(np.float32), towards.astype(np.float32)) >= 0,
    }
    taken = interleaved(calls, rounds=5, seconds=15)
    differ = float(np.mean(calls["theirs"]() != calls["ours"]()))
    return Row(
        f"{what}, {len(start)} rays", "s", spread(taken["ours"]), peer, spread(taken["theirs"]),
        ratio=ratios(taken["theirs"], taken["ours"]),
        equality=Equality("share of rays that one hits and the other does not", differ, 0.005),
    )  # fmt: skip


def open_bowl() -> tuple[Any, Any]:
    """Half a sphere without a lid, vertices (n, 3) float64 and faces (m, 3) int64."""
    import numpy as np
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.95)
    kept = np.asarray(ball.triangles_center)[:, 1] < 0
    return np.asarray(ball.vertices), np.asarray(ball.faces)[kept]


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds of one process against the number of objects."""
    sizes = (1, 2, 3, 4, 5) if options.quick else (1, 2, 4, 6, 8, 12)
    # The same family each time, so that objects cost alike, and a small recipe: what grows is the number.
    source = {"source": "procedural", "counts": {"train": max(sizes)}, "families": ["chair"]}
    specs = list_objects(source)
    params = check_params(QUICK)
    params.pop("val_rotations")
    calls = {n: (lambda n=n: prepare(specs[:n], source, params)) for n in sizes}
    taken = interleaved(calls, rounds=3, seconds=15)
    costs = tuple(spread(taken[n]) for n in sizes)
    return (Curve("small recipe, chairs", "objects", "s", sizes, costs, 1.0, "each by itself"),)
