"""Preparation beside its peers, on the meshes that are prepared: watertight solids, and the renderer's own rays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from benchmarks import peers
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.result import Equality, Row
from core.box import BOUND
from data.distance import sample_triangles, triangle_distance
from data.load import RawMesh, normalise
from data.render import Scene
from data.views import fit_view, plan_views
from data.watertight import make_solid

Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices (n, 3), faces (m, 3)."""
APART = 2.0
"""Cells that two watertight surfaces may be apart in the mean; the peer's recipe moves its own outwards."""
OTHERS = 0.005
"""Share of rays, along edges, that may meet another place: one engine computes in float32, the other in float64."""
NEAR = 1e-3
EVERY = 16
"""Every so many-th ray of a picture: the peer takes its time."""


@dataclass
class Recorded:
    """An Embree scene that keeps the rays it was asked for last."""

    scene: Any
    origins: np.ndarray | None = None
    rays: np.ndarray | None = None

    def run(self, origins: np.ndarray, rays: np.ndarray, **options: Any) -> Any:
        self.origins, self.rays = origins, rays
        return self.scene.run(origins, rays, **options)


def normalised(raw: RawMesh) -> RawMesh:
    """A mesh in the box, as `data.objects.prepare_object` makes it."""
    return replace(raw, vertices=normalise(raw.vertices)[0])


def rays_of(raw: RawMesh, params: Mapping[str, Any]) -> Recorded:
    """The rays of one view of a normalised mesh, as the renderer casts them, with the scene that it casts them at."""
    scene = Scene(raw.vertices, raw.faces)
    (pose,) = plan_views(1, 0, np.random.default_rng(0), params["first_azimuth"])
    scene._embree = recorded = Recorded(scene._embree)
    scene.render(fit_view(pose, raw.vertices), params["image_size"], supersample=params["supersample"])
    return recorded


def embree_alone(meshes: Sequence[RawMesh], params: Mapping[str, Any]) -> tuple[float, float]:
    """Rays of a view, and the seconds that Embree takes for them, in the mean of the meshes."""
    views = [rays_of(normalised(raw), params) for raw in meshes]
    calls = {"cast": lambda: [view.scene.run(view.origins, view.rays, output=True) for view in views]}
    seconds = spread(interleaved(calls, rounds=5, seconds=5)["cast"]).median
    return sum(len(view.rays) for view in views) / len(views), seconds / len(views)


def beside_peers(meshes: Sequence[RawMesh], params: Mapping[str, Any]) -> list[Row]:
    """A row for each peer, on these meshes as they were read."""
    meshes = [normalised(raw) for raw in meshes]
    return [_watertight(meshes, params["grid"]), _rays(meshes, params)]


def _watertight(meshes: Sequence[RawMesh], grid: int) -> Row:
    """Our solids beside point-cloud-utils' manifolds at about the same resolution."""
    what, peer = f"watertight solids of {len(meshes)} meshes", "point-cloud-utils"
    if not peers.installed("point_cloud_utils"):
        return Row(what, "s", None, peer, peer_status=peers.NOT_INSTALLED)
    import point_cloud_utils

    def theirs() -> list[Mesh]:
        # Its resolution is a number of leaves of an octree over the surface: about as many cells as our grid has there.
        pairs = [(np.float64(raw.vertices), np.int64(raw.faces)) for raw in meshes]
        return [point_cloud_utils.make_mesh_watertight(*pair, resolution=grid**2) for pair in pairs]

    def ours() -> list[Mesh]:
        return [make_solid(replace(raw, solid=False), grid).mesh() for raw in meshes]

    taken = interleaved({"theirs": theirs, "ours": ours}, rounds=5, seconds=15, warm_up=0)
    cell = 2 * BOUND / grid
    pairs = list(zip(ours(), theirs(), strict=True))
    apart = max(surface_distance(a, b, cell / 2) / cell for a, b in pairs)
    volumes = ", ".join(f"{volume(a) / volume(b) - 1:+.0%}" for a, b in pairs)
    return Row(
        what, "s", spread(taken["ours"]), peer, spread(taken["theirs"]), ratio=ratios(taken["theirs"], taken["ours"]),
        equality=Equality("mean distance of the surfaces, in cells, largest of the meshes", apart, APART),
        limit=f"our volume beside the peer's, whose surface stands off by a cell or so: {volumes}",
    )  # fmt: skip


def surface_distance(a: Mesh, b: Mesh, spacing: float) -> float:
    """The larger of the two mean distances of one surface's samples, `spacing` apart, from the other surface."""
    means = []
    for (vertices, faces), (others, triangles) in ((a, b), (b, a)):
        points, _ = sample_triangles(vertices, faces, spacing)
        samples, owner = sample_triangles(others, triangles, spacing)
        nearest = cKDTree(samples, balanced_tree=False, compact_nodes=False).query(points)[1]
        means.append(float(triangle_distance(points, others[triangles][owner[nearest]]).mean()))
    return max(means)


def volume(mesh: Mesh) -> float:
    """Of a closed mesh with outward faces."""
    corners = mesh[0][mesh[1]]
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def _rays(meshes: Sequence[RawMesh], params: Mapping[str, Any]) -> Row:
    """The renderer's rays by Embree, beside trimesh's own ray engine."""
    what, peer = f"rays of a picture each of {len(meshes)} meshes", "trimesh's own ray engine"
    if not peers.installed("rtree"):
        return Row(what, "s", None, peer, peer_status=f"{peers.NOT_INSTALLED} (it needs rtree)")
    import trimesh
    from trimesh.ray.ray_triangle import RayMeshIntersector

    views = [rays_of(raw, params) for raw in meshes]
    asked = [(np.ascontiguousarray(v.origins[::EVERY]), np.ascontiguousarray(v.rays[::EVERY])) for v in views]
    engines = [RayMeshIntersector(trimesh.Trimesh(raw.vertices, raw.faces, process=False)) for raw in meshes]

    def theirs() -> list[np.ndarray]:
        return [engine.intersects_first(*pair) for engine, pair in zip(engines, asked, strict=True)]

    def ours() -> list[np.ndarray]:
        return [view.scene.run(*pair, output=True)["primID"] for view, pair in zip(views, asked, strict=True)]

    taken = interleaved({"theirs": theirs, "ours": ours}, rounds=5, seconds=15)
    differ = [
        np.abs(depth(raw, *pair, a) - depth(raw, *pair, b)) > NEAR
        for raw, pair, a, b in zip(meshes, asked, ours(), theirs(), strict=True)
    ]
    return Row(
        f"{what}, 1 of {EVERY}: {sum(len(rays) for _, rays in asked):,} rays", "s", spread(taken["ours"]), peer,
        spread(taken["theirs"]), ratio=ratios(taken["theirs"], taken["ours"]),
        equality=Equality("share of rays that meet another place", float(np.concatenate(differ).mean()), OTHERS),
    )  # fmt: skip


def depth(raw: RawMesh, origins: np.ndarray, rays: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """How far along each ray (n, 3) the plane of its face is, 0 where it meets none: doubled faces are one place."""
    met = faces >= 0
    corners = raw.vertices[raw.faces[faces[met]]].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    along = np.einsum("ij,ij->i", rays[met], normals)
    far = np.zeros(len(rays))
    far[met] = np.einsum("ij,ij->i", corners[:, 0] - origins[met], normals) / np.where(along, along, np.inf)
    return far
