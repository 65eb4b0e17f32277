"""Views and condition images against geometry that is known."""

import io

import numpy as np
import pytest
import trimesh
from PIL import Image
from scipy.ndimage import maximum_filter

from core.box import LONGEST_SIDE
from data.render import Scene, encode_depth, encode_image
from data.sources.procedural import make
from data.views import FIELD_OF_VIEW, FILL, View, camera, fit_view, plan_views, random_rotation, yaw

HALF = np.tan(np.radians(FIELD_OF_VIEW / 2))


def _front(elevation=0.0, rotation=None):
    rotation = np.eye(3) if rotation is None else rotation
    return View(rotation.astype(np.float32), 1.0, np.zeros(3, np.float32), elevation, 0.0, True)


def _decode(blob):
    return np.asarray(Image.open(io.BytesIO(blob)).convert("RGBA"))


def test_plan_is_upright_views_first_then_random_ones():
    poses = plan_views(8, 6, np.random.default_rng(0))
    assert len(poses) == 56
    assert [pose.upright for pose in poses] == [True] * 8 + [False] * 48
    assert [pose.azimuth for pose in poses[:8]] == [0, 45, 90, 135, 180, 225, 270, 315]
    assert all(-10 <= pose.elevation <= 30 for pose in poses)
    for pose in poses:
        assert pose.rotation @ pose.rotation.T == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(pose.rotation) == pytest.approx(1)
    for pose in poses[:8]:
        assert pose.rotation @ [0, 1, 0] == pytest.approx([0, 1, 0])
    fewer = plan_views(8, 0, np.random.default_rng(0))
    assert len(fewer) == 8


def test_the_upright_views_begin_at_the_first_azimuth():
    whole, part = plan_views(8, 1, np.random.default_rng(0)), plan_views(2, 1, np.random.default_rng(0), 225.0)
    assert [pose.azimuth for pose in part] == [225, 45, 225, 45]
    for pose in part[:2]:
        same = next(other for other in whole if other.azimuth == pose.azimuth)
        assert pose.rotation == pytest.approx(same.rotation)


def test_random_rotations_are_uniform():
    rng = np.random.default_rng(0)
    turned = np.array([random_rotation(rng) for _ in range(4000)])
    assert turned.mean(0) == pytest.approx(np.zeros((3, 3)), abs=0.04)
    assert (turned**2).mean(0) == pytest.approx(np.full((3, 3), 1 / 3), abs=0.02)
    # The angle of a uniform rotation has density (1 - cos t) / pi, whose mean is pi/2 + 2/pi.
    angles = np.arccos((np.trace(turned, axis1=1, axis2=2) - 1) / 2)
    assert angles.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.03)


def test_view_recentres_and_resizes():
    rng = np.random.default_rng(3)
    vertices = rng.normal(size=(200, 3)) * [1, 0.3, 0.1] + [0.1, 0, 0]
    for pose in plan_views(3, 2, rng):
        seen = fit_view(pose, vertices).apply(vertices)
        assert (seen.max(0) + seen.min(0)) == pytest.approx(np.zeros(3), abs=1e-5)
        assert np.ptp(seen, axis=0).max() == pytest.approx(LONGEST_SIDE, abs=1e-5)


def test_yaw_turns_the_front_to_the_right():
    assert yaw(90) @ [0, 0, 1] == pytest.approx([1, 0, 0])


def test_bounding_sphere_fills_nine_tenths_of_the_frame():
    sphere = trimesh.creation.icosphere(5, 0.95)
    image = Scene(sphere.vertices, sphere.faces).render(_front(), 200, supersample=2).image
    columns = np.flatnonzero((image[..., 3] > 127).any(0))
    assert (columns[-1] - columns[0] + 1) / 200 == pytest.approx(FILL, abs=0.011)
    assert image[100, 100, 3] == 255 and image[0, 0, 3] == 0


def test_alpha_is_the_covered_share_of_a_pixel():
    sphere = trimesh.creation.icosphere(5, 0.95)
    image = Scene(sphere.vertices, sphere.faces).render(_front(), 64, supersample=4).image
    covered = image[..., 3].astype(float).sum() / 255
    assert covered == pytest.approx(np.pi / 4 * (FILL * 64) ** 2, rel=0.005)
    assert ((image[..., 3] > 0) & (image[..., 3] < 255)).sum() > 100


def test_every_axis_of_the_picture_is_the_right_way_round():
    """Three boxes: long to the right, shorter up, and one towards the camera that hides what is behind it."""
    right = trimesh.creation.box((0.3, 0.1, 0.1)).apply_translation([0.8, 0, 0])
    up = trimesh.creation.box((0.1, 0.3, 0.1)).apply_translation([0, 0.6, 0])
    mesh = trimesh.util.concatenate([right, up])
    alpha = Scene(mesh.vertices, mesh.faces).render(_front(), 64).image[..., 3]
    rows, columns = np.nonzero(alpha)
    assert columns.min() >= 29 and columns.max() > 50  # +X is to the right
    assert rows.max() <= 35 and rows.min() < 20  # +Y is up, in the first rows
    turned = Scene(mesh.vertices, mesh.faces).render(_front(rotation=yaw(180)), 64).image[..., 3]
    assert np.nonzero(turned)[1].max() <= 34


def test_elevation_looks_from_above():
    plate = trimesh.creation.box((1.9, 0.02, 1.9))
    scene = Scene(plate.vertices, plate.faces)
    flat, above = (scene.render(_front(elevation), 64).image[..., 3].sum() for elevation in (0.0, 30.0))
    assert above > 3 * flat
    picture = scene.render(_front(30.0), 64, keep=("normal",))
    assert picture.normal[32, 32] == pytest.approx([0, 1, 0], abs=1e-5)
    position, axes = camera(30.0, 1.0)
    assert position[1] > 0 and axes @ axes.T == pytest.approx(np.eye(3)) and np.linalg.det(axes) == pytest.approx(1)


def test_silhouette_is_that_of_the_mesh_in_the_view_frame():
    """Project the view-frame mesh with the documented camera: the outlines agree to a pixel."""
    mesh = trimesh.util.concatenate(
        [trimesh.creation.box((1.9, 0.4, 0.2)), trimesh.creation.icosphere(3, 0.3).apply_translation([0.3, 0.4, 0])]
    )
    mesh.vertices -= mesh.bounds.mean(0)
    scene = Scene(mesh.vertices, mesh.faces)
    dense = mesh.sample(60000, seed=0)
    for pose in plan_views(2, 2, np.random.default_rng(5)):
        view = fit_view(pose, mesh.vertices)
        alpha = scene.render(view, 64, supersample=4).image[..., 3]
        radius = np.linalg.norm(view.apply(mesh.vertices), axis=1).max()
        position, axes = camera(view.elevation, radius)
        local = (view.apply(dense) - position) @ axes.T
        flat = local[:, :2] / (-local[:, 2:] * HALF)
        pixels = ((flat * [1, -1] + 1) * 32).astype(int)
        drawn = np.zeros((64, 64), bool)
        drawn[pixels[:, 1], pixels[:, 0]] = True
        assert maximum_filter(alpha, 3)[drawn].min() > 0  # a sliver of a pixel may escape the rays, no more
        assert drawn[alpha == 255].mean() > 0.995


def test_depth_and_normals():
    sphere = trimesh.creation.icosphere(5, 0.95)
    picture = Scene(sphere.vertices, sphere.faces).render(_front(), 65, supersample=1, keep=("normal", "depth"))
    distance = 0.95 / np.sin(np.arctan(FILL * HALF))
    assert picture.depth[32, 32] == pytest.approx(distance - 0.95, abs=2e-3)
    assert picture.normal[32, 32] == pytest.approx([0, 0, 1], abs=0.05)
    assert picture.normal[32, 55][0] > 0.6 and picture.normal[9, 32][1] > 0.6
    assert (picture.depth[picture.image[..., 3] == 0] == 0).all()
    code = np.asarray(Image.open(io.BytesIO(encode_depth(picture.depth)))).astype(float) / 8192
    assert np.abs(code - picture.depth).max() < 1e-4


def test_faces_that_look_away_are_lit_too():
    """Real meshes are often wound the wrong way: both sides of a face look the same."""
    box = trimesh.creation.box((1.9, 1.0, 1.0))
    outward = Scene(box.vertices, box.faces).render(_front(20.0, yaw(30)), 48).image
    inward = Scene(box.vertices, box.faces[:, ::-1]).render(_front(20.0, yaw(30)), 48).image
    assert np.array_equal(outward, inward)


def test_sides_of_a_box_differ_in_shade():
    box = trimesh.creation.box((1.5, 1.5, 1.5))
    image = Scene(box.vertices, box.faces).render(_front(25.0, yaw(40)), 64, supersample=1).image
    shades, counts = np.unique(image[image[..., 3] == 255][:, 0], return_counts=True)
    big = shades[counts > 50].astype(int)
    assert len(big) == 3 and np.diff(big).min() >= 15 and big.max() < 255


def test_colours_of_vertices_show():
    box = trimesh.creation.box((1.9, 1.9, 1.9))
    red = np.tile(np.array([255, 0, 0, 255], np.uint8), (8, 1))
    image = Scene(box.vertices, box.faces, red).render(_front(), 32).image
    assert image[16, 16, 0] > 100 and image[16, 16, 1] == 0


@pytest.mark.parametrize("image_format", ["webp", "png"])
def test_clay_images_are_stored_exactly(image_format):
    sphere = trimesh.creation.icosphere(3, 0.95)
    image = Scene(sphere.vertices, sphere.faces).render(_front(), 64).image
    assert np.array_equal(_decode(encode_image(image, image_format)), image)


def test_coloured_images_keep_alpha_exactly_and_colour_nearly():
    sphere = trimesh.creation.icosphere(3, 0.95)
    colours = np.random.default_rng(0).integers(0, 255, (len(sphere.vertices), 4)).astype(np.uint8)
    image = Scene(sphere.vertices, sphere.faces, colours).render(_front(), 64).image
    read = _decode(encode_image(image, "webp"))
    assert np.array_equal(read[..., 3], image[..., 3])
    solid = image[..., 3] == 255
    assert np.abs(read[..., :3].astype(int) - image[..., :3])[solid].mean() < 12


@pytest.mark.parametrize("coloured", [False, True])
def test_views_of_128_pixels_take_3_kb_in_the_mean(coloured):
    sizes = []
    for family in ("chair", "mug", "table", "truck", "csg", "house"):
        mesh = make(f"train-{family}-00003")
        vertices = trimesh.remesh.subdivide_to_size(mesh.vertices, mesh.faces, 0.05) if coloured else None
        points, faces = vertices or (mesh.vertices, mesh.faces)
        stripes = np.where(
            np.sin(25 * points[:, [1]]) > 0, [200, 40, 30], [240, 220, 180]
        )  # edges are what costs bytes
        scene = Scene(points, faces, stripes.astype(np.uint8) if coloured else None)
        for pose in plan_views(4, 0, np.random.default_rng(0), 20.0):
            picture = scene.render(fit_view(pose, points), 128)
            sizes.append(len(encode_image(picture.image, "webp")))
    assert len(sizes) == 24 and np.mean(sizes) <= 3000
