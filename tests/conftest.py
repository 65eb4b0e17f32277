"""Data that several rooms' tests stand on: tiny prepared datasets, made once per test session.

Tests see no GPU, since they compare bits and start several processes on one machine; with GPU=1 they do.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

if os.environ.get("GPU") != "1":  # before any module imports torch; the processes that tests start inherit it
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

TINY = {
    "points": 512,
    "volume": 1024,
    "near": 1024,
    "grid": 48,
    "azimuths": 2,
    "rotations": 1,
    "image_size": 32,
    "supersample": 1,
}
"""Prepare parameters of the smoke scale."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of procedural objects, 8 to train on, 2 to validate, 2 to test, as the data room makes them."""
    from data.prepare import prepare_shard, shard_path, shard_specs
    from data.sources import list_objects

    folder = tmp_path_factory.mktemp("prepared")
    source = {"source": "procedural", "counts": {"train": 8, "val": 2, "test": 2}}
    specs = list_objects(source)
    for split in ("train", "val", "test"):
        objects = shard_specs(specs, split, 0, 8)
        prepare_shard(objects, source, TINY, shard_path(folder, split, 0), dataset="procedural")
    return folder


def ellipsoid_object(name: str, axes: Sequence[float], params: dict, *, rotations: int):
    """A prepared ellipsoid with these semi-axes (the longest must be 0.95), everything from closed forms."""
    import trimesh
    from PIL import Image

    from core.randomness import numpy_rng, seed_of
    from data.quantise import decode_positions, encode_normals, encode_positions, query_positions
    from data.store import PreparedObject, encode_mesh
    from data.views import fit_view, plan_views

    half = np.asarray(axes, np.float64)
    rng = numpy_rng("ellipsoid", name)
    unit = rng.normal(size=(params["points"], 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    normals = unit / half
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = encode_positions(unit * half)
    seed = seed_of("queries", name)
    queries = query_positions(
        decode_positions(points),
        seed=seed,
        volume=params["volume"],
        near=params["near"],
        sigmas=tuple(params["sigmas"]),
    )
    ball = trimesh.creation.icosphere(subdivisions=3)
    vertices, faces = encode_mesh(np.asarray(ball.vertices) * half, np.asarray(ball.faces))
    poses = plan_views(params["azimuths"], rotations, rng)
    views = [fit_view(pose, decode_positions(vertices)) for pose in poses]
    size = params["image_size"]
    x = (np.arange(size) + 0.5) / size * 2.4 - 1.2
    grid = np.stack(np.meshgrid(x, -x), -1)  # row 0 is the top
    pictures = []
    for view in views:
        # Seen along z without perspective, the outline of an ellipsoid is the ellipse of the upper left 2 x 2 block.
        spread = view.scale**2 * (view.rotation * half**2) @ view.rotation.T
        inside = np.einsum("hwi,ij,hwj->hw", grid, np.linalg.inv(spread[:2, :2]), grid) < 1
        image = np.zeros((size, size, 4), np.uint8)
        image[inside] = (150, 150, 150, 255)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    return PreparedObject(
        about={"object": name, "category": "ellipsoid", "source": "test", "path": "", "licence": "", "attribution": ""},
        seed=seed,
        points=points,
        normals=encode_normals(normals),
        labels=((queries / half) ** 2).sum(axis=1) < 1,
        vertices=vertices,
        faces=faces,
        views=views,
        pictures={"image": pictures},
    )


@pytest.fixture(scope="session")
def ellipsoids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of ellipsoids with known volumes: train and test hold the same four shapes, named apart."""
    from data.prepare import check_params, split_params
    from data.store import write_shard

    folder = tmp_path_factory.mktemp("ellipsoids")
    shapes = {
        "ball": (0.95, 0.95, 0.95),
        "cigar": (0.3, 0.3, 0.95),
        "plate": (0.95, 0.2, 0.95),
        "pole": (0.25, 0.95, 0.25),
    }
    params = check_params({**TINY, "volume": 20000})
    for split in ("train", "val", "test"):
        chosen = split_params(params, split)
        objects = [
            ellipsoid_object(f"{split}/{k}", v, chosen, rotations=chosen["rotations"]) for k, v in shapes.items()
        ]
        write_shard(folder / split / "00000.safetensors", chosen, objects)
    return folder
