"""One object, from its mesh to everything that is stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from core.randomness import numpy_rng, seed_of
from data.load import BadMesh, normalise
from data.quantise import decode_positions, encode_normals, encode_positions, query_positions
from data.render import Scene, encode_depth, encode_image, encode_normal
from data.sample import sample_surface
from data.sources import ObjectSpec, load
from data.store import PreparedObject, encode_mesh
from data.views import fit_view, plan_views
from data.watertight import make_solid

LEAST_FACES = 4  # what a closed surface needs, and the evaluation asks of a ground truth


def prepare_object(
    spec: ObjectSpec, source: Mapping[str, Any], params: Mapping[str, Any], *, dataset: str
) -> PreparedObject:
    """Everything that is stored of one object; raises BadMesh, or anything that a hostile mesh provokes.

    Surface points come from the watertight solid, so that no hidden inner face is learnt from; images and the
    stored mesh come from the mesh as loaded.
    """
    raw = load(spec, source)
    vertices, _, _ = normalise(raw.vertices)
    raw = replace(raw, vertices=vertices)
    solid = make_solid(raw, params["grid"])

    surface_rng = numpy_rng("prepare", dataset, spec.object, "surface")
    try:
        points, normals = sample_surface(*solid.mesh(), params["points"], rng=surface_rng)
    except ValueError as error:
        raise BadMesh(str(error)) from error
    codes = encode_positions(points)
    seed = seed_of("prepare", dataset, spec.object, "queries")
    counts = {"volume": params["volume"], "near": params["near"], "sigmas": tuple(params["sigmas"])}
    labels = solid.inside(query_positions(decode_positions(codes), seed=seed, **counts))

    views_rng = numpy_rng("prepare", dataset, spec.object, "views")
    poses = plan_views(params["azimuths"], params["rotations"], views_rng, params["first_azimuth"])
    views = [fit_view(pose, vertices) for pose in poses]
    scene = Scene(vertices, raw.faces)
    if params["shading"] == "texture":
        # An atlas of twice the picture's width has about a texel for each pixel: finer ones would only flicker.
        texture = raw.texture and raw.texture.at_most(2 * params["image_size"])
        scene = Scene(vertices, raw.faces, raw.colours, texture)
    pictures: dict[str, list[bytes]] = {kind: [] for kind in ("image", *params["keep"])}
    for view in views:
        picture = scene.render(
            view, params["image_size"], supersample=params["supersample"], keep=tuple(params["keep"])
        )
        pictures["image"].append(encode_image(picture.image, params["image_format"]))
        if picture.normal is not None:
            pictures["normal"].append(encode_normal(picture.normal))
        if picture.depth is not None:
            pictures["depth"].append(encode_depth(picture.depth))

    stored_vertices, stored_faces = encode_mesh(*decimated(vertices, raw.faces, params["faces"]))
    corners = stored_vertices.astype(np.int64)[stored_faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(float), axis=1)
    if np.count_nonzero(areas) < LEAST_FACES:
        raise BadMesh(f"fewer than {LEAST_FACES} faces with an area are left of it at 16 bits per coordinate")
    about = {
        "object": spec.object,
        "category": spec.category,
        "source": spec.source,
        "path": spec.path or "",
        "licence": spec.licence,
        "attribution": spec.attribution,
        "loaded_faces": str(len(raw.faces)),
    }
    if spec.phases:
        about["phases"] = " ".join(spec.phases)
    return PreparedObject(
        about=about,
        seed=seed,
        points=codes,
        normals=encode_normals(normals),
        labels=np.asarray(labels, bool),
        vertices=stored_vertices,
        faces=stored_faces,
        views=views,
        pictures=pictures,
    )


def decimated(vertices: np.ndarray, faces: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The mesh itself, or its quadric decimation to about `limit` faces where it has more."""
    if len(faces) <= limit:
        return vertices, faces
    import fast_simplification

    return fast_simplification.simplify(vertices, faces, target_count=limit)
