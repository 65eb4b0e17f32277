"""Textures: from OBJ, MTL and PNG, or a glTF scene, to the colours of a picture."""

import io

import numpy as np
import pytest
import trimesh
from PIL import Image

from data.load import read_mesh
from data.render import Scene
from data.texture import Texture, merged
from data.views import Pose, fit_view

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
QUARTERS = np.array([[RED, GREEN], [BLUE, YELLOW]], np.uint8).repeat(32, 0).repeat(32, 1)  # as seen: upper row first

# A box whose faces towards +Z show the whole image, upright; the others show one point of it.
OBJ = """\
mtllib model.mtl
v -1 -1 -1
v 1 -1 -1
v 1 1 -1
v -1 1 -1
v -1 -1 1
v 1 -1 1
v 1 1 1
v -1 1 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl skin
f 5/1 6/2 7/3
f 5/1 7/3 8/4
f 2/1 1/1 4/1
f 2/1 4/1 3/1
f 6/1 2/1 3/1
f 6/1 3/1 7/1
f 1/1 5/1 8/1
f 1/1 8/1 4/1
f 8/1 7/1 3/1
f 8/1 3/1 4/1
f 1/1 2/1 6/1
f 1/1 6/1 5/1
"""
MTL = "newmtl skin\nKa 1 1 1\nKd 1 1 1\nmap_Kd texture.png\n"


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_model(folder, texture):
    (folder / "meshes").mkdir(parents=True)
    (folder / "meshes/model.obj").write_text(OBJ)
    (folder / "meshes/model.mtl").write_text(MTL)
    texture.parent.mkdir(parents=True, exist_ok=True)
    texture.write_bytes(png(QUARTERS))


def front(mesh, size=64):
    view = fit_view(Pose(np.eye(3), 0.0, 0.0, True), mesh.vertices)
    return Scene(mesh.vertices, mesh.faces, mesh.colours, mesh.texture).render(view, size).image


def hues(image):
    """Which channels are lit in the middle of each quarter of a picture, upper row first."""
    at = [image[y, x, :3] > 60 for y in (20, 43) for x in (20, 43)]
    return [tuple(int(lit) for lit in pixel) for pixel in at]


AS_SEEN = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]


def test_a_texture_shows_upright_and_not_mirrored(tmp_path):
    write_model(tmp_path, tmp_path / "meshes/texture.png")
    mesh = read_mesh(tmp_path / "meshes/model.obj")
    assert len(mesh.vertices) == 8  # seams of the texture do not tear the surface
    assert hues(front(mesh)) == AS_SEEN


def test_a_texture_in_a_folder_that_is_named_is_found(tmp_path):
    write_model(tmp_path, tmp_path / "materials/textures/texture.png")
    assert read_mesh(tmp_path / "meshes/model.obj").texture is None
    mesh = read_mesh(tmp_path / "meshes/model.obj", textures=[tmp_path / "materials/textures"])
    assert hues(front(mesh)) == AS_SEEN


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "..\\secret.png"])
def test_a_texture_outside_of_the_folder_is_not_opened(tmp_path, name):
    write_model(tmp_path, tmp_path / "secret.png")
    (tmp_path / "meshes/model.mtl").write_text(MTL.replace("texture.png", name))
    assert read_mesh(tmp_path / "meshes/model.obj").texture is None


def test_a_broken_texture_does_not_cost_the_shape(tmp_path):
    write_model(tmp_path, tmp_path / "meshes/texture.png")
    (tmp_path / "meshes/texture.png").write_bytes(png(QUARTERS)[:60])
    mesh = read_mesh(tmp_path / "meshes/model.obj")
    assert len(mesh.faces) == 12 and mesh.texture is None


def test_parts_of_a_scene_keep_their_own_images(tmp_path):
    """One part textured, moved by a mirror; one of vertex colours; both in one glTF file."""
    write_model(tmp_path, tmp_path / "meshes/texture.png")
    textured = trimesh.load(tmp_path / "meshes/model.obj", process=False)
    plain = trimesh.creation.box((2, 2, 2))
    plain.visual.vertex_colors = np.tile([255, 0, 255, 255], (8, 1))
    scene = trimesh.Scene()
    scene.add_geometry(textured, transform=np.diag([-1.0, 1, 1, 1]))
    scene.add_geometry(plain, transform=trimesh.transformations.translation_matrix([0, 5, 0]))
    scene.export(tmp_path / "scene.glb")
    mesh = read_mesh(tmp_path / "scene.glb")
    assert sorted(np.unique(mesh.texture.page).tolist()) == [-1, 0]
    image = front(mesh, 128)
    left, right = image[109, 57, :3] > 60, image[109, 70, :3] > 60
    assert left.tolist() == [True, True, False] and right.tolist() == [False, False, True]  # mirrored: yellow, blue
    assert (image[26, 64, :3] > 60).tolist() == [True, False, True]


def test_the_colour_is_the_product_of_image_and_factor(tmp_path):
    write_model(tmp_path, tmp_path / "meshes/texture.png")
    textured = trimesh.load(tmp_path / "meshes/model.obj", process=False)
    image = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=image, baseColorFactor=[255, 127, 0, 255])
    textured.visual = trimesh.visual.TextureVisuals(uv=textured.visual.uv, material=material)
    textured.export(tmp_path / "box.glb")
    assert read_mesh(tmp_path / "box.glb").texture.pages[0][0, 0].tolist() == pytest.approx([200, 100, 0], abs=1)


def ramp():
    """One face whose u runs from 0 to 1 over an image with the values 0 and 100."""
    uv = np.array([[[0, 0.5], [1, 0.5], [0, 0.5]]], np.float32)
    return Texture(uv, np.zeros(1, np.int16), (np.array([[[0] * 3, [100] * 3]], np.uint8),))


@pytest.mark.parametrize(("u", "value"), [(0.25, 0), (0.5, 50), (0.75, 100), (0.0, 50), (1.0, 50)])
def test_colours_between_texels_are_linear_and_images_repeat(u, value):
    """Texel centres are at 1/4 and 3/4; the edge is half way to the repeated image."""
    colour = ramp().over(np.full((1, 3), 7, np.float32), np.array([0]), np.array([[1 - u, u, 0]]))
    assert colour == pytest.approx(np.full((1, 3), value), abs=1e-4)


def test_faces_without_an_image_keep_their_colours():
    texture = merged([None, ramp()], [2, 1])
    colours = texture.over(np.full((2, 3), 7, np.float32), np.array([1, 2]), np.array([[1 / 3] * 3, [0.25, 0.75, 0]]))
    assert colours == pytest.approx(np.array([[7] * 3, [100] * 3]))
    assert merged([None, None], [1, 2]) is None


def test_smaller_images_are_averages():
    small = Texture(ramp().uv, ramp().page, (QUARTERS,)).at_most(2).pages[0]
    assert small.tolist() == [[list(RED), list(GREEN)], [list(BLUE), list(YELLOW)]]
