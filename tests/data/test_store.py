"""What is written into a shard is what is read from it, to stated bounds."""

import io
import pickle

import numpy as np
import pytest
import trimesh
from PIL import Image

from core.errors import UserError
from data.quantise import decode_positions, encode_normals, encode_positions, query_positions
from data.sample import sample_surface
from data.store import PreparedObject, Split, encode_mesh, evaluation_views, write_shard
from data.views import fit_view, plan_views

PARAMS = {
    "points": 256,
    "volume": 4001,  # not a multiple of 8, so that the last byte of bits is partly used
    "near": 2000,
    "sigmas": [0.005, 0.02],
    "azimuths": 4,
    "rotations": 1,
    "image_size": 8,
    "keep": [],
}
RADIUS = 0.95


def _image(k):
    rng = np.random.default_rng(k)
    return rng.integers(0, 255, (8, 8, 4)).astype(np.uint8)


def _png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _sphere(k, params=PARAMS, subdivisions=3):
    """A prepared sphere of radius 0.95, stretched a little so that objects differ."""
    mesh = trimesh.creation.icosphere(subdivisions, RADIUS)
    rng = np.random.default_rng(k)
    points, normals = sample_surface(mesh.vertices, mesh.faces, params["points"], rng=rng)
    codes = encode_positions(points)
    counts = {"volume": params["volume"], "near": params["near"], "sigmas": tuple(params["sigmas"])}
    queries = query_positions(decode_positions(codes), seed=100 + k, **counts)
    vertices, faces = encode_mesh(mesh.vertices, mesh.faces)
    poses = plan_views(params["azimuths"], params["rotations"], rng)
    return PreparedObject(
        about={"object": f"ball-{k}", "category": "ball" if k % 2 else ""},
        seed=100 + k,
        points=codes,
        normals=encode_normals(normals),
        labels=np.linalg.norm(queries, axis=1) < RADIUS,
        vertices=vertices,
        faces=faces,
        views=[fit_view(pose, mesh.vertices) for pose in poses],
        pictures={"image": [_png(_image(100 * k + v)) for v in range(len(poses))]},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five spheres in shards of 2, 0 and 3."""
    folder = tmp_path_factory.mktemp("prepared")
    for shard, members in enumerate([(0, 1), (), (2, 3, 4)]):
        write_shard(folder / "train" / f"{shard:05d}.safetensors", PARAMS, [_sphere(k) for k in members])
    return folder


def test_objects_come_in_order_over_all_shards(folder):
    split = Split(folder, "train")
    assert len(split) == 5
    assert split.objects == [f"ball-{k}" for k in range(5)]
    assert split.categories == ["", "ball", "", "ball", ""]
    assert (split.n_views, split.upright_views, split.image_size) == (8, [0, 1, 2, 3], 8)


def test_surface_round_trip(folder):
    points, normals = Split(folder, "train").surface(3)
    mesh = trimesh.creation.icosphere(3, RADIUS)
    exact, exact_normals = sample_surface(mesh.vertices, mesh.faces, 256, rng=np.random.default_rng(3))
    assert points.dtype == normals.dtype == np.float32
    assert np.abs(points - exact).max() < 1.7e-5
    assert (normals * exact_normals).sum(1).min() > np.cos(np.radians(1.2))


def test_labels_are_those_of_the_positions_that_a_reader_gets(folder):
    split = Split(folder, "train")
    for i in range(len(split)):
        positions, labels, n_volume = split.occupancy(i)
        assert positions.shape == (6001, 3) and labels.dtype == bool and n_volume == 4001
        assert np.array_equal(labels, np.linalg.norm(positions, axis=1) < RADIUS)
        assert labels[:n_volume].mean() == pytest.approx(4 / 3 * np.pi * RADIUS**3 / 2.1**3, abs=0.03)
        assert np.abs(np.linalg.norm(positions[n_volume:], axis=1) - RADIUS).max() < 0.1
    again = Split(folder, "train").occupancy(4)[0]
    assert np.array_equal(again, positions)


def test_mesh_round_trip(folder):
    vertices, faces = Split(folder, "train").mesh(2)
    exact = trimesh.creation.icosphere(3, RADIUS)
    assert vertices.dtype == np.float32 and faces.dtype == np.int32
    assert np.abs(vertices[faces] - exact.triangles).max() < 1.7e-5
    assert trimesh.Trimesh(vertices, faces, process=False).is_watertight


def test_images_and_views_belong_to_their_object(folder):
    split = Split(folder, "train")
    for i, v in [(0, 0), (1, 7), (2, 3), (4, 7)]:
        assert np.array_equal(split.image(i, v), _image(100 * i + v))
    mesh = trimesh.creation.icosphere(3, RADIUS)
    written = _sphere(3).views
    for v, exact in enumerate(written):
        view = split.view(3, v)
        assert np.array_equal(view.apply(mesh.vertices), exact.apply(mesh.vertices))
        assert (view.scale, view.elevation, view.azimuth, view.upright) == (
            exact.scale,
            exact.elevation,
            exact.azimuth,
            exact.upright,
        )
    with pytest.raises(IndexError):
        split.image(0, 8)
    with pytest.raises(IndexError):
        split.view(0, -1)


def test_a_sample_is_in_the_view_frame(folder):
    sample = Split(folder, "train").sample(1, 6)
    assert (sample.object, sample.category, sample.view_index, sample.view.upright) == ("ball-1", "ball", 6, False)
    vertices, _ = sample.mesh()
    assert np.ptp(vertices, axis=0).max() == pytest.approx(1.9, abs=1e-4)
    assert (vertices.max(0) + vertices.min(0)) == pytest.approx(np.zeros(3), abs=1e-4)
    points, normals = sample.surface()
    assert (points * normals).sum(1).min() > 0.9  # both turned alike: the normals still point outwards
    canonical = sample.split.surface(1)[0]
    assert not np.allclose(points, canonical, atol=0.1)
    positions, labels, _ = sample.occupancy()
    radius = np.linalg.norm(positions - sample.view.apply(np.zeros((1, 3))), axis=1)
    assert np.array_equal(labels[np.abs(radius - 0.95) > 0.02], (radius < 0.95)[np.abs(radius - 0.95) > 0.02])
    assert np.array_equal(sample.image(), _image(106))


def test_encode_mesh_welds_and_drops_what_collapses():
    tiny = np.array([[0, 0, 0], [1e-7, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [9, 9, 9.0]])
    vertices, faces = encode_mesh(tiny, np.array([[0, 2, 3], [0, 1, 2], [1, 2, 3]]))
    assert len(vertices) == 3 and faces.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_same_arguments_same_bytes(tmp_path):
    for name in "ab":
        write_shard(tmp_path / name / "00000.safetensors", PARAMS, [_sphere(0), _sphere(1)])
    a, b = ((tmp_path / name / "00000.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_a_split_travels_to_other_processes(folder):
    split = Split(folder, "train")
    split.surface(0)
    copy = pickle.loads(pickle.dumps(split))  # what a worker process is sent; no file is read this way
    assert np.array_equal(copy.surface(4)[0], split.surface(4)[0])


def test_size_at_the_counts_of_the_paper(tmp_path):
    """At most 400 KB an object: 16384 points, 2 x 131072 labels and a mesh of 20,480 faces, without views."""
    params = PARAMS | {"points": 16384, "volume": 131072, "near": 131072}
    path = tmp_path / "train" / "00000.safetensors"
    write_shard(path, params, [_sphere(0, params, subdivisions=5), _sphere(1, params, subdivisions=5)])
    split = Split(tmp_path, "train")
    assert len(split.mesh(0)[1]) == 20480
    images = sum(len(_png(_image(100 * k + v))) for k in range(2) for v in range(8))
    assert (path.stat().st_size - images) / 2 <= 400_000


def test_meshes_of_more_vertices_than_16_bits_count(tmp_path):
    rng = np.random.default_rng(0)
    big = _sphere(0)
    vertices, faces = encode_mesh(rng.uniform(-1, 1, (90000, 3)), np.arange(90000).reshape(-1, 3))
    assert len(vertices) > 65536
    big = PreparedObject(**{**vars(big), "vertices": vertices, "faces": faces})
    write_shard(tmp_path / "train" / "00000.safetensors", PARAMS, [big])
    assert np.array_equal(Split(tmp_path, "train").mesh(0)[1], faces)


def test_evaluation_views_are_upright_stable_and_spread(folder):
    split = Split(folder, "train")
    pairs = evaluation_views(split, 2)
    assert pairs == evaluation_views(Split(folder, "train"), 2)
    assert [i for i, _ in pairs] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert all(v in split.upright_views for _, v in pairs) and len(set(pairs)) == 10
    assert len({v for _, v in evaluation_views(split, 1)}) > 1  # not the same view of every object
    assert set(evaluation_views(split, 1)) <= set(pairs)
    with pytest.raises(UserError, match="4 upright"):
        evaluation_views(split, 5)


def test_missing_data_say_what_to_do(tmp_path, folder):
    with pytest.raises(UserError, match="python -m data prepare"):
        Split(tmp_path / "nothing", "train")
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="python -m data prepare"):
        Split(tmp_path, "val")
    with pytest.raises(UserError, match="train, val, test"):
        Split(folder, "training")
    for shard in (0, 2):
        write_shard(tmp_path / "test" / f"{shard:05d}.safetensors", PARAMS, [])
    with pytest.raises(UserError, match=r"00001 .* is missing"):
        Split(tmp_path, "test")
    write_shard(tmp_path / "test" / "00001.safetensors", PARAMS | {"points": 128}, [])
    with pytest.raises(UserError, match="other parameters"):
        Split(tmp_path, "test")


def test_a_damaged_shard_is_named(tmp_path, folder):
    whole = (folder / "train" / "00000.safetensors").read_bytes()
    damaged = tmp_path / "train" / "00000.safetensors"
    damaged.parent.mkdir()
    for content in (b"", b"junk", whole[:1000], whole[:-5]):
        damaged.write_bytes(content)
        with pytest.raises(UserError, match=r"00000\.safetensors is not a readable shard"):
            Split(tmp_path, "train")


def test_a_split_without_objects_is_legal(tmp_path):
    write_shard(tmp_path / "train" / "00000.safetensors", PARAMS, [])
    split = Split(tmp_path, "train")
    assert len(split) == 0 and evaluation_views(split, 1) == []
