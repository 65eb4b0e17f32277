"""Solids against closed forms: volume, sides, cavities, sheets, holes, wires."""

import numpy as np
import pytest
import trimesh

from core.box import BOUND
from data.distance import sample_triangles, triangle_distance
from data.load import RawMesh, normalise
from data.watertight import make_solid

GRID = 64
VOXEL = 2 * BOUND / GRID


def raw(mesh: trimesh.Trimesh, *, solid: bool = False) -> RawMesh:
    vertices, _, _ = normalise(np.asarray(mesh.vertices, dtype=np.float64))
    return RawMesh(vertices, np.asarray(mesh.faces, dtype=np.int64), solid=solid)


def built(mesh: trimesh.Trimesh, grid: int = GRID) -> trimesh.Trimesh:
    vertices, faces = make_solid(raw(mesh), grid).mesh()
    return trimesh.Trimesh(vertices, faces, process=False)


def turned(mesh: trimesh.Trimesh, angle: float) -> trimesh.Trimesh:
    return mesh.copy().apply_transform(trimesh.transformations.rotation_matrix(angle, [1, 2, 3]))


def test_sphere_keeps_its_volume_and_size():
    result = built(trimesh.creation.icosphere(subdivisions=4))
    assert result.is_watertight and result.is_winding_consistent
    assert result.volume == pytest.approx(4 / 3 * np.pi * 0.95**3, rel=0.01)  # positive: faces look outwards
    assert np.abs(np.linalg.norm(result.vertices, axis=1) - 0.95).max() < 0.1 * VOXEL  # an offset of eps would be 1


def test_the_mesh_and_the_inside_test_agree():
    solid = make_solid(raw(trimesh.creation.icosphere(subdivisions=4)), GRID)
    vertices, _ = solid.mesh()
    assert solid.inside(vertices * 0.99).all()
    assert not solid.inside(vertices * 1.01).any()


@pytest.mark.parametrize("solid", [True, False])
def test_inside_of_a_torus(solid):
    shape = raw(trimesh.creation.torus(1.0, 0.35, major_sections=128, minor_sections=64), solid=solid)
    scale = 0.95 / 1.35
    points = np.random.default_rng(0).uniform(-BOUND, BOUND, (20_000, 3))
    ring = np.hypot(points[:, 0], points[:, 1]) - scale
    depth = 0.35 * scale - np.hypot(ring, points[:, 2])
    labels = make_solid(shape, GRID).inside(points)
    sure = np.abs(depth) > (0.003 if solid else 0.15 * VOXEL)  # the mesh is a polygon inside the torus
    assert np.array_equal(labels[sure], depth[sure] > 0)


def test_a_clean_solid_is_left_as_it_is():
    shape = raw(trimesh.creation.box((1, 2, 3)), solid=True)
    vertices, faces = make_solid(shape, GRID).mesh()
    assert np.array_equal(vertices, shape.vertices) and np.array_equal(faces, shape.faces)


def test_rays_count_a_cavity_of_a_clean_solid_as_outside():
    outer, inner = trimesh.creation.icosphere(3), trimesh.creation.icosphere(3, radius=0.5)
    inner.invert()
    solid = make_solid(raw(outer + inner, solid=True), GRID)
    labels = solid.inside(np.array([[0, 0, 0], [0.3, 0, 0], [0.7, 0.1, 0], [0, 0, 1.0]]))
    assert labels.tolist() == [False, False, True, False]


@pytest.mark.parametrize("inverted", [True, False])
def test_only_the_exterior_of_nested_spheres_remains(inverted):
    outer, inner = trimesh.creation.icosphere(4), trimesh.creation.icosphere(4, radius=0.5)
    if inverted:
        inner.invert()
    result = built(outer + inner)
    assert result.body_count == 1
    assert result.volume == pytest.approx(4 / 3 * np.pi * 0.95**3, rel=0.01)


def test_overlapping_boxes_become_one_body():
    a, b = trimesh.creation.box((1, 1, 1)), trimesh.creation.box((1, 1, 1)).apply_translation((0.5, 0.5, 0.5))
    result = built(a + b)
    scale = 1.9 / 1.5
    assert result.body_count == 1
    assert result.volume == pytest.approx((2 - 0.125) * scale**3, rel=0.01)


def test_sharp_corners_are_not_moved_outwards():
    result = built(trimesh.creation.box((1.0, 1.0, 1.0)))
    assert np.abs(result.bounds).max() < 0.95 + 0.05 * VOXEL


@pytest.mark.parametrize("angle", [0.0, 0.4])
def test_an_open_box_stays_open_with_thin_walls(angle):
    box = trimesh.creation.box((1.0, 1.0, 1.0))
    box.update_faces(box.face_normals[:, 1] < 0.5)
    shape = raw(turned(box, angle))
    solid = make_solid(shape, GRID)
    result = trimesh.Trimesh(*solid.mesh(), process=False)
    area = trimesh.Trimesh(shape.vertices, shape.faces).area
    assert result.is_watertight and result.body_count == 1
    assert 1.0 < result.volume / (area * VOXEL) < 1.4  # walls of 1.2 voxels
    assert not solid.inside(shape.vertices.mean(axis=0)[None] * 0.5).any()


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.1])
@pytest.mark.parametrize("thick", [0.05, 0.5, 0.9, 1.3])
def test_thin_slabs_survive_whole(thick, angle):
    size = np.array([1.9, thick * VOXEL, 1.3])
    rotation = trimesh.transformations.rotation_matrix(angle, [1, 2, 3])
    slab = trimesh.creation.box(size / 1.9, transform=rotation)
    shape = raw(slab)
    scale = np.ptp(shape.vertices[:, 0]) / np.ptp(slab.vertices[:, 0])
    solid = make_solid(shape, GRID)
    place = np.random.default_rng(0).uniform(-0.48, 0.48, (5000, 3)) * (1, 0, 1) * size / 1.9
    assert solid.inside(place @ rotation[:3, :3].T * scale).all()  # nothing of its middle plane is lost
    result, truth = trimesh.Trimesh(*solid.mesh(), process=False), trimesh.Trimesh(shape.vertices, shape.faces)
    largest = max(part.volume for part in result.split(only_watertight=False))
    assert largest > 0.999 * result.volume
    thickness = result.volume / (truth.area / 2) / VOXEL
    assert thickness < max(1.25, 1.1 * thick * scale)


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.9])
def test_a_wire_on_a_ball_stays_one_piece(angle):
    ball = trimesh.creation.icosphere(3, radius=0.4)
    wire = trimesh.creation.cylinder(0.002, 1.9).apply_translation((0, 0, 0.95))
    assert built(turned(ball + wire, angle)).body_count == 1


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.9])
def test_a_sheet_on_a_ball_stays_one_piece(angle):
    ball = trimesh.creation.icosphere(3, radius=0.4)
    sheet = trimesh.Trimesh([[0, -0.2, 0], [0, 0.2, 0], [1.9, 0.2, 0], [1.9, -0.2, 0]], [[0, 1, 2], [0, 2, 3]])
    assert built(turned(ball + sheet, angle)).body_count == 1


def test_a_small_hole_does_not_let_the_outside_in():
    sphere = trimesh.creation.icosphere(subdivisions=4)
    sphere.update_faces(np.arange(len(sphere.faces)) % 37 != 0)  # holes of 0.07, about two voxels across
    result = built(sphere)
    assert result.volume == pytest.approx(4 / 3 * np.pi * 0.95**3, rel=0.03)


def test_faces_turned_the_wrong_way_do_not_matter():
    sphere = trimesh.creation.icosphere(subdivisions=3)
    faces = sphere.faces.copy()
    faces[::2] = faces[::2, ::-1]
    result = built(trimesh.Trimesh(sphere.vertices, faces, process=False))
    assert result.volume == pytest.approx(sphere.volume * 0.95**3, rel=0.01)


def test_points_beyond_the_box_are_outside():
    solid = make_solid(raw(trimesh.creation.box((1, 1, 1))), GRID)
    assert not solid.inside(np.array([[1.2, 0, 0], [0, -5.0, 0]])).any()


def test_the_same_mesh_gives_the_same_field():
    shape = raw(trimesh.creation.torus(1.0, 0.3))
    assert np.array_equal(make_solid(shape, GRID).field, make_solid(shape, GRID).field)


def test_a_grid_too_coarse_for_the_margin_is_refused():
    with pytest.raises(ValueError, match="below"):
        make_solid(raw(trimesh.creation.box((1, 1, 1))), 32)


def test_samples_cover_every_triangle_slivers_too():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0.3, 0.001, 0], [0.2, 0.9, 0.4]])
    faces = np.array([[0, 1, 2], [0, 1, 3], [2, 3, 1]])
    points, owner = sample_triangles(vertices, faces, 0.05)
    assert len(points) < 800
    rng = np.random.default_rng(0)
    for face in range(3):
        weights = rng.dirichlet((1, 1, 1), 500)
        gaps = np.linalg.norm((weights @ vertices[faces[face]])[:, None] - points[owner == face], axis=2).min(axis=1)
        assert gaps.max() < 0.05


def test_triangle_distance_over_face_edge_and_corner():
    triangle = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=float)
    points = np.array([[0.2, 0.2, 0.5], [0.5, -2, 0], [-3, -4, 0], [1, 1, 0], [0.3, 0.3, 0]], dtype=float)
    expected = [0.5, 2, 5, np.sqrt(0.5), 0]
    assert triangle_distance(points, np.broadcast_to(triangle, (5, 3, 3))) == pytest.approx(expected)
