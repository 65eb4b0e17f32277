"""Reading: every format gives the same cube, every kind of bad file its own reason."""

import struct

import numpy as np
import pytest
import trimesh

from data.load import BadMesh, RawMesh, normalise, read_mesh, validate

CUBE = trimesh.creation.box((1.0, 2.0, 3.0))


def scene() -> trimesh.Scene:
    """Two cubes of 1 x 2 x 3: one moved by 10 along x, one mirrored and scaled by 2."""
    moved = trimesh.transformations.translation_matrix((10, 0, 0))
    result = trimesh.Scene()
    result.add_geometry(CUBE, geom_name="cube", node_name="moved", transform=moved)
    result.add_geometry(CUBE, geom_name="cube", node_name="mirrored", transform=np.diag([-2.0, 2.0, 2.0, 1.0]))
    return result


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl", "off", "glb", "gltf"])
def test_every_format_is_read(tmp_path, suffix):
    path = tmp_path / f"cube.{suffix}"
    if suffix == "gltf":
        for name, content in trimesh.Scene(CUBE).export(file_type="gltf").items():
            (tmp_path / ("cube.gltf" if name == "model.gltf" else name)).write_bytes(content)
    else:
        CUBE.export(path)
    mesh = read_mesh(path)
    assert mesh.vertices.shape == (8, 3) and mesh.faces.shape == (12, 3)
    assert mesh.vertices.dtype == np.float64 and mesh.faces.dtype == np.int64 and not mesh.solid
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume == pytest.approx(6.0)


def test_a_scene_is_merged_with_its_transforms(tmp_path):
    scene().export(tmp_path / "scene.glb")
    mesh = read_mesh(tmp_path / "scene.glb")
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert shape.bounds.ravel() == pytest.approx([-1, -2, -3, 10.5, 2, 3])
    assert shape.volume == pytest.approx(6.0 + 48.0)  # the mirrored one too looks outwards


def test_vertex_colours_are_kept(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (8, 4), dtype=np.uint8)
    coloured = trimesh.Trimesh(CUBE.vertices, CUBE.faces, vertex_colors=colours, process=False)
    coloured.export(tmp_path / "cube.ply")
    mesh = read_mesh(tmp_path / "cube.ply")
    place = [int(np.flatnonzero((mesh.vertices == vertex).all(axis=1))[0]) for vertex in CUBE.vertices]
    assert np.array_equal(mesh.colours[place], colours)


def test_uncoloured_meshes_have_no_colours(tmp_path):
    CUBE.export(tmp_path / "cube.stl")
    assert read_mesh(tmp_path / "cube.stl").colours is None


def test_a_missing_texture_does_not_cost_the_shape(tmp_path):
    lines = ["mtllib gone.mtl", "usemtl wood", *(f"v {x} {y} {z}" for x, y, z in CUBE.vertices)]
    lines += [f"f {a} {b} {c}" for a, b, c in CUBE.faces + 1]
    (tmp_path / "cube.obj").write_text("\n".join(lines))
    assert len(read_mesh(tmp_path / "cube.obj").faces) == 12


def stl_header(count: int) -> bytes:
    return bytes(80) + struct.pack("<I", count)


BAD = {
    "text.obj": (b"Dear reader,\nthis is a letter.\n", "no triangles"),
    "random.glb": (bytes(range(256)) * 4, "wrong extension"),
    "cut.glb": (b"glTF" + struct.pack("<II", 2, 1000), "cannot be read"),
    "empty.obj": (b"", "empty"),
    "model.fbx": (b"Kaydara FBX Binary", "extension"),
    "really_ply.obj": (CUBE.export(file_type="ply"), "looks like .ply"),
    "really_obj.ply": (CUBE.export(file_type="obj").encode(), "wrong extension"),
    "points.ply": (trimesh.PointCloud(CUBE.vertices).export(file_type="ply"), "point cloud"),
    "points.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles"),
    "nan.obj": (b"v 0 0 0\nv nan 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\nf 2 3 4\nf 1 3 4\n", "NaN"),
    "index.off": (b"OFF\n4 2 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 9\n", "does not exist|cannot be read"),
    "flat.obj": (b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n", "flat"),
    "tilted.obj": (b"v 0 0 0\nv 1 0 1\nv 1 1 2\nv 0 1 1\nf 1 2 3\nf 1 3 4\n", "flat"),
    "line.obj": (b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "degenerate"),
    "point.obj": (b"v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n", "zero size"),
    "monster.stl": (stl_header(1_000_000) + bytes(50 * 1_000_000), "1,000,000 faces"),
    "monster.ply": (
        b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        b"element face 2000000\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n",
        "2,000,000 faces",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_a_reason(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadMesh, match=reason) as caught:
        read_mesh(tmp_path / name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_a_missing_file_has_a_reason(tmp_path):
    with pytest.raises(BadMesh, match="missing"):
        read_mesh(tmp_path / "nothing.obj")


def test_the_limit_of_faces_is_a_parameter(tmp_path):
    trimesh.creation.icosphere(3).export(tmp_path / "ball.obj")
    assert len(read_mesh(tmp_path / "ball.obj", max_faces=1280).faces) == 1280
    with pytest.raises(BadMesh, match="1,280 faces, more than the limit of 1,279"):
        read_mesh(tmp_path / "ball.obj", max_faces=1279)


def test_validate_drops_what_is_degenerate_or_unused():
    vertices = np.concatenate([CUBE.vertices, CUBE.vertices[:1], [[np.nan] * 3]])  # one doubled, one unused
    faces = np.concatenate([CUBE.faces, [[0, 8, 1]]])
    mesh = validate(RawMesh(vertices, faces))
    assert len(mesh.vertices) == 8 and len(mesh.faces) == 12


def test_normalise_centres_and_can_be_undone():
    vertices = np.random.default_rng(0).normal(size=(50, 3)) * (1, 5, 2) + 7
    normalised, centre, scale = normalise(vertices)
    low, high = normalised.min(axis=0), normalised.max(axis=0)
    assert (low + high) == pytest.approx(np.zeros(3), abs=1e-12) and (high - low).max() == pytest.approx(1.9)
    assert normalised / scale + centre == pytest.approx(vertices)


def test_a_name_that_no_file_can_have_is_a_bad_mesh(tmp_path):
    with pytest.raises(BadMesh, match=r"File name too long|missing"):
        read_mesh(tmp_path / ("x" * 300 + ".obj"))
