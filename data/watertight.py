"""Make inside and outside of any mesh: `make_solid(mesh, grid)` gives an inside test and a watertight mesh.

A mesh that is known to be a clean solid is left as it is, and asked by rays. Any other mesh goes through a grid over
the box [-1.05, 1.05]^3 that keeps the exterior only:

1. unsigned distance at the nodes near the surface (exact to the triangle of the nearest of many surface samples);
2. outside = flood fill of {distance > eps} from the corner, eps = one voxel: gaps narrower than two voxels are shut;
3. the outside then grows back, node by node, through the layer of eps over steps that cross no triangle. The usual
   recipe stops at 2, which moves every surface outwards by eps; with 3 a thick closed part keeps its true size;
4. what has no inside left at the grid's resolution (sheets, wires, slabs thinner than about a voxel) is put back,
   thickened to 2 * `SHEET` voxels in all (a wire to 2 * `WIRE`);
5. the signed field is trilinear between the nodes; its zero level is the new surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.box import BOUND
from data.distance import sample_triangles, triangle_distance
from data.load import BadMesh, RawMesh

EPS = 1.0  # voxels; see the module's docstring
SHEET = 0.6  # voxels; above 0.5 so that a flat sheet half-way between two layers of nodes still shows in both
WIRE = 0.75  # voxels; as SHEET, but above sqrt(1/2), for a line half-way between four nodes
GROWTH = 3  # steps of the outside back to the surface: eps along a diagonal takes two, a concave corner three
BAND = 1.75  # voxels, just over sqrt(3): nodes of all cells that the surface passes through
DIRECTIONS = np.float32([[0.5773, 0.3219, 0.7504], [-0.6427, 0.7301, 0.2321], [0.1377, -0.4759, -0.8687]])
ON_SURFACE = 0.02  # voxels; nodes nearer than this are on the surface and have no side
INSIDE = 0.05  # voxels; a field above this is an inside, and not a node that lies on a sheet
DEPTH = 0.75  # voxels; how far from the surface an inside is looked for
NOT_ZERO = 1e-3  # voxels
MIN_GRID = 48  # below it the margin of the box, 0.1, is less than two voxels


@dataclass
class Solid:
    """Either a clean mesh (`field` None) or a signed field on (N+1)^3 nodes over the box, positive inside."""

    vertices: np.ndarray
    faces: np.ndarray
    field: np.ndarray | None = None
    _rays: _Rays | None = None

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Which points (n, 3) are inside: (n,) bool. Points outside the box are outside."""
        if self.field is None:
            self._rays = self._rays or _Rays(self.vertices, self.faces)
            return self._rays.inside(points)
        from scipy.ndimage import map_coordinates

        scale = (self.field.shape[0] - 1) / (2 * BOUND)
        where = (np.asarray(points, dtype=np.float64).T + BOUND) * scale
        return map_coordinates(self.field, where, order=1, mode="constant", cval=-1.0) > 0

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """The watertight surface: vertices (n, 3) float64, faces (m, 3) int64, counter-clockwise from outside."""
        if self.field is None:
            return self.vertices, self.faces
        from skimage.measure import marching_cubes

        vertices, faces, _, _ = marching_cubes(self.field, 0.0, gradient_direction="ascent")
        size = 2 * BOUND / (self.field.shape[0] - 1)
        return vertices.astype(np.float64) * size - BOUND, faces.astype(np.int64)


class _Rays:
    """Ray queries against a mesh with Embree (float32)."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.scene = EmbreeScene()
        TriangleMesh(self.scene, vertices.astype(np.float32), faces.astype(np.int32))

    def back_face_first(self, points: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Whether the first face met from each point (n, 3) float32 is seen from its back: (n,) bool."""
        directions = np.broadcast_to(direction, points.shape).astype(np.float32)
        hits = self.scene.run(points, directions, output=True)
        return (hits["primID"] >= 0) & ((hits["Ng"] * directions).sum(axis=1) > 0)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Inside test for a clean solid: two rays, and a third where they disagree (a ray may slip along an edge)."""
        points = np.ascontiguousarray(points, dtype=np.float32)
        first = self.back_face_first(points, DIRECTIONS[0])
        unsure = np.flatnonzero(first != self.back_face_first(points, DIRECTIONS[1]))
        if len(unsure):
            first[unsure] = self.back_face_first(points[unsure], DIRECTIONS[2])
        return first

    def way_out(self, start: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Way from points inside (n, 3) to where the mesh is left, infinity where a front face comes first: (n,)."""
        directions = np.ascontiguousarray(directions, dtype=np.float32)
        hits = self.scene.run(start.astype(np.float32), directions, output=True)
        leaves = (hits["primID"] >= 0) & ((hits["Ng"] * directions).sum(axis=1) > 0)
        return np.where(leaves, hits["tfar"], np.inf)

    def blocked(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Whether a face lies between `start` and `end`, both (n, 3): (n,) bool."""
        steps = (end - start).astype(np.float32)
        ones = np.ones(len(steps), dtype=np.float32)
        return self.scene.run(start.astype(np.float32), steps, dists=ones, query="OCCLUDED") >= 0


def make_solid(mesh: RawMesh, grid: int) -> Solid:
    """The solid of a normalised mesh; `grid` is the number N of cells per side where a grid is needed.

    Raises `BadMesh` if nothing solid comes out. Deterministic.
    """
    if mesh.solid:
        return Solid(mesh.vertices, mesh.faces)
    field = signed_field(mesh.vertices, mesh.faces, grid)
    if not (field > 0).any():
        raise BadMesh(f"nothing of it is left on a grid of {grid} cells")
    return Solid(mesh.vertices, mesh.faces, field)


def signed_field(vertices: np.ndarray, faces: np.ndarray, grid: int) -> np.ndarray:
    """Distance to the exterior surface at the (grid + 1)^3 nodes, positive inside, capped at `BAND` voxels; float32.

    Steps 1 to 4 of the module's docstring; the unit is the length in the box. The vertices must lie in the box.
    """
    from scipy.ndimage import binary_dilation, label

    if grid < MIN_GRID:
        raise ValueError(f"grid {grid} is below {MIN_GRID}: objects would touch the side of the box")
    voxel = 2 * BOUND / grid
    points, owner = sample_triangles(vertices, faces, voxel / 2)
    points_grid = (points + BOUND) / voxel
    nodes, distance = _band(vertices, faces, points_grid, owner, grid, voxel)  # flat indices, in voxels

    shape = (grid + 1,) * 3
    near = np.full(shape, BAND, dtype=np.float32)
    near.ravel()[nodes] = distance
    labels, _ = label(near > EPS)
    outside = labels == labels[0, 0, 0]
    rays = _Rays(vertices, faces)
    outside = _grow(outside, near, rays, voxel)

    field = np.where(outside, -near, near)
    touched = binary_dilation(outside, np.ones((3, 3, 3), dtype=bool))
    field[~touched] = BAND  # faces buried inside must not dent the field
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300))[owner]
    thin = _thin_samples(field, points_grid, normals)
    if len(thin):
        _add_sheets(field, near, points_grid[thin], _layers(rays, points[thin], normals[thin], voxel))
    field[np.abs(field) < NOT_ZERO] = -NOT_ZERO  # a zero at a node would give triangles without area
    field *= voxel
    return field


def _around(points_grid: np.ndarray, grid: int, reach: int) -> np.ndarray:
    """Flat indices of the nodes within `reach` steps along every axis of a node that is nearest to a point."""
    size = grid + 1
    mask = np.zeros((size, size, size), dtype=bool)
    index = np.clip(np.rint(points_grid).astype(np.int64), 0, grid)
    mask[index[:, 0], index[:, 1], index[:, 2]] = True
    for axis in range(3):
        grown = mask.copy()
        for step in range(1, reach + 1):
            here = [slice(None)] * 3
            there = [slice(None)] * 3
            here[axis], there[axis] = slice(step, None), slice(None, -step)
            grown[tuple(here)] |= mask[tuple(there)]
            grown[tuple(there)] |= mask[tuple(here)]
        mask = grown
    return np.flatnonzero(mask)


def _band(
    vertices: np.ndarray, faces: np.ndarray, points_grid: np.ndarray, owner: np.ndarray, grid: int, voxel: float
) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the nodes within `BAND` of the surface and their distances to it, in voxels, float32."""
    from scipy.spatial import cKDTree

    nodes = _around(points_grid, grid, 2)
    places = np.stack(np.unravel_index(nodes, (grid + 1,) * 3), axis=1).astype(np.float64)
    tree = cKDTree(points_grid, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(places, distance_upper_bound=BAND + 0.36)
    found = nearest < len(points_grid)
    nodes, places = nodes[found], places[found]
    triangles = ((vertices + BOUND) / voxel)[faces][owner[nearest[found]]]
    distance = triangle_distance(places, triangles)
    close = distance < BAND
    return nodes[close], distance[close].astype(np.float32)


def _grow(outside: np.ndarray, near: np.ndarray, rays: _Rays, voxel: float) -> np.ndarray:
    """Let the outside back into the layer of `EPS`, over grid steps that no face blocks."""
    size = outside.shape[0]
    flat, distance = outside.ravel().copy(), near.ravel()
    steps = (1, -1, size, -size, size * size, -size * size)
    open_nodes = np.flatnonzero(~flat & (distance <= EPS) & (distance > ON_SURFACE))
    for _ in range(GROWTH):
        gained = []
        for step in steps:
            reached = open_nodes[flat[open_nodes + step]]
            start, end = (_positions(index, size, voxel) for index in (reached + step, reached))
            gained.append(reached[~rays.blocked(start, end)])
        flat[np.concatenate(gained)] = True
        open_nodes = open_nodes[~flat[open_nodes]]
    inner = ~flat & (distance > ON_SURFACE)
    on_surface = np.flatnonzero(~flat & (distance <= ON_SURFACE))
    beside_inner = np.any([inner[on_surface + step] for step in steps], axis=0)
    flat[on_surface[~beside_inner]] = True  # nodes in a sheet
    return flat.reshape(outside.shape)


def _positions(index: np.ndarray, size: int, voxel: float) -> np.ndarray:
    """Where nodes are, moved by a hair: a ray along a grid line may otherwise run through an edge and miss it."""
    places = np.stack(np.unravel_index(index, (size,) * 3), axis=1)
    return (places + np.array([0.0131, 0.0083, -0.0107])) * voxel - BOUND


def _thin_samples(field: np.ndarray, points_grid: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Indices of the samples near which there is no inside."""
    from scipy.ndimage import map_coordinates

    def value(where: np.ndarray) -> np.ndarray:
        return map_coordinates(field, where.T, order=1, mode="nearest")

    left = np.arange(len(points_grid))
    for way in ("in", "out", "uphill"):  # most meshes face outwards: the first test settles nearly all samples
        places = points_grid[left]
        if way == "uphill":  # on a sharp convex edge the inside lies neither ahead nor behind, but up the field
            ahead = np.stack([value(places + step) - value(places - step) for step in 0.5 * np.eye(3)], axis=1)
            ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-30)
        else:
            ahead = -normals[left] if way == "in" else normals[left]
        left = left[value(places + DEPTH * ahead) <= INSIDE]
    return left


def _layers(rays: _Rays, points: np.ndarray, normals: np.ndarray, voxel: float) -> np.ndarray:
    """How much, in voxels, to add around each thin sample (n, 3), so that its sheet, slab or wire shows on the grid."""
    skip = 0.01 * voxel
    thickness = (rays.way_out(points - skip * normals, -normals) + skip) / voxel
    layer = np.full(len(points), SHEET)
    slab = np.flatnonzero(thickness < 2 * SHEET)
    points, normals, thickness = points[slab], normals[slab], thickness[slab]
    middle = points - normals * (thickness * voxel / 2)[:, None]
    side = np.cross(normals, np.eye(3)[np.abs(normals).argmin(axis=1)])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    widths = [rays.way_out(middle, d) + rays.way_out(middle, -d) for d in (side, np.cross(normals, side))]
    is_wire = np.minimum(*widths) < 2 * WIRE * voxel
    layer[slab] = np.where(is_wire, WIRE, SHEET) - thickness / 2
    return layer


def _add_sheets(field: np.ndarray, near: np.ndarray, thin: np.ndarray, layer: np.ndarray) -> None:
    """Raise the field (in voxels, in place) to `layer` (n,) voxels around the thin samples (n, 3)."""
    from scipy.spatial import cKDTree

    nodes = _around(thin, field.shape[0] - 1, 2)
    nodes = nodes[near.reshape(-1)[nodes] < BAND]
    places = np.stack(np.unravel_index(nodes, field.shape), axis=1)
    _, nearest = cKDTree(thin, balanced_tree=False, compact_nodes=False).query(places)
    flat = field.reshape(-1)
    flat[nodes] = np.maximum(flat[nodes], layer[nearest] - near.reshape(-1)[nodes])
