"""Meshes made elsewhere: axes, names, what is missing, stray or double, and rows as of any other method."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh

from core.errors import UserError
from core.identity import ROOT
from data.names import view_name
from data.store import Split, evaluation_views
from methods import generate, registry, sources
from methods.contract import Failure, Mesh, PreparedData
from methods.external import folder, frame
from methods.external.method import External
from methods.meshes import fault, file_name, write_ply
from methods.run import fit, make_method

AXES = list(frame.AXES)
PAIRS = [(up, front) for up in AXES for front in AXES if up[-1] != front[-1]]

# ---------------------------------------------------------------- axes


@pytest.mark.parametrize(("up", "front"), PAIRS + [(up, None) for up in AXES])
def test_every_rotation_is_proper_and_maps_both_axes(up, front):
    rotation = frame.rotation(up, front)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert np.array_equal(rotation @ rotation.T, np.eye(3))
    assert np.array_equal(rotation @ frame.AXES[up], [0, 1, 0])
    assert np.array_equal(rotation @ frame.AXES[front or frame.USUAL_FRONT[up]], [0, 0, 1])


def test_usual_conventions():
    assert np.array_equal(frame.rotation("y"), np.eye(3))  # glTF
    assert np.array_equal(frame.rotation("z") @ [1, 2, 3], [1, 3, -2])  # Blender's exporter: (x, y, z) to (x, z, -y)


@pytest.mark.parametrize(("up", "front", "says"), [("w", None, "up is 'w'"), ("y", "q", "front"), ("y", "-y", "line")])
def test_a_wrong_axis_is_one_sentence(up, front, says):
    with pytest.raises(UserError, match=says):
        frame.rotation(up, front)


# ---------------------------------------------------------------- names


def touch(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return folder.mesh_files(root)


VIEWS = [("chair", 0), ("chair", 2), ("shoes/left one", 1)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{name}.v{view}", ["chair.v00.glb", "chair.v02.PLY", f"{view_name('shoes/left one', 1)}.obj"]),
        ("{object}/{view}", ["chair/00.off", "chair/02.stl", "shoes/left one/01.gltf"]),
        ("out/{object}.{view}", ["out/chair.00.off", "out/chair.02.stl", "out/shoes/left one.01.gltf"]),
    ],
)
def test_files_are_found_by_the_pattern(tmp_path, pattern, names):
    paths = touch(tmp_path, *names, "chair.mtl", "texture.png", "._chair.v00.glb")
    found = folder.match(tmp_path, paths, pattern, VIEWS)
    assert [found.files[view].name for view in VIEWS] == [Path(name).name for name in names]
    assert not found.strays and not found.missing


def test_a_pattern_without_view_is_one_mesh_for_all_views(tmp_path):
    found = folder.match(tmp_path, touch(tmp_path, "chair/mesh.obj"), "{name}/mesh", VIEWS)
    assert found.files[("chair", 0)] == found.files[("chair", 2)] == tmp_path / "chair/mesh.obj"
    assert found.missing == (("shoes/left one", 1),)


def test_missing_and_stray_files_are_told_apart(tmp_path):
    paths = touch(tmp_path, "chair.v00.glb", "chair.v2.glb", "stool.v00.obj")
    found = folder.match(tmp_path, paths, "{name}.v{view}", VIEWS)
    assert set(found.files) == {("chair", 0)}
    assert found.missing == (("chair", 2), ("shoes/left one", 1))
    assert [path.name for path in found.strays] == ["chair.v2.glb", "stool.v00.obj"]


def test_two_files_for_one_view_are_one_sentence(tmp_path):
    paths = touch(tmp_path, "chair.v00.glb", "chair.v00.obj")
    with pytest.raises(UserError, match=r"chair\.v00\.glb and .*obj are both the mesh of chair\.v00: keep one"):
        folder.match(tmp_path, paths, "{name}.v{view}", VIEWS)


@pytest.mark.parametrize(("pattern", "says"), [("mesh", "names no object"), ("{name}{nam}", r"only \{name\}, ")])
def test_a_faulty_pattern_is_one_sentence(tmp_path, pattern, says):
    with pytest.raises(UserError, match=says):
        folder.match(tmp_path, touch(tmp_path, "a.obj"), pattern, VIEWS)


def test_the_folder_may_depend_on_the_dataset():
    assert folder.root_of({"root": "../meshes/{dataset}"}, "gso") == ROOT.parent / "meshes" / "gso"
    with pytest.raises(UserError, match="names no folder"):
        folder.root_of({"root": None}, "gso")
    with pytest.raises(UserError, match=r"only \{dataset\} may"):
        folder.root_of({"root": "{datset}"}, "gso")


# ---------------------------------------------------------------- as a method


@pytest.fixture
def methods_folder(tmp_path) -> Path:
    """A `methods/` with `external` and one system that says only where its meshes are."""
    place = tmp_path / "methods"
    shutil.copytree(ROOT / "methods/external", place / "external", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "triposr").mkdir()
    config = "name: triposr\nlabel: TripoSR\nsummary: made elsewhere\nkind: external\nparams: {root: %s, up: z}\n"
    (place / "triposr/config.yaml").write_text(config % (tmp_path / "meshes"))
    (tmp_path / "meshes").mkdir()
    return place


@pytest.fixture
def load(ellipsoids, tmp_path):
    """Fit the index and load `External` with these params."""

    def loaded(**params) -> External:
        method = External({"pattern": "{name}.v{view}", "up": "y", "front": None, "root": str(tmp_path), **params})
        out = tmp_path / "index"
        out.mkdir(exist_ok=True)
        method.fit("index", PreparedData(ellipsoids, "ellipsoids", "smoke"), upstream={}, out=out, seed=0)
        return method.load({"index": out}, "cpu")

    return loaded


def results(method: External, split: Split, pairs: list[tuple[int, int]]) -> list[Mesh | Failure]:
    images = np.stack([split.image(i, v) for i, v in pairs])
    return method.generate(images, rngs=[np.random.default_rng()] * len(pairs))


def test_own_meshes_come_back_as_they_are(ellipsoids, load, tmp_path):
    # What this project itself generates follows the same rule of names, so it may be handed in again.
    split = Split(ellipsoids, "test")
    pairs = evaluation_views(split, 1)
    for i, v in pairs:
        write_ply(tmp_path / file_name(split.objects[i], v), *split.sample(i, v).mesh())
    for (i, v), mesh in zip(pairs, results(load(), split, pairs), strict=True):
        vertices, faces = split.sample(i, v).mesh()
        assert fault(mesh) is None
        np.testing.assert_allclose(mesh.vertices, vertices, atol=2e-4)  # the box is centred and sized once more
        assert np.array_equal(mesh.faces, faces)


@pytest.mark.parametrize("up", AXES)
def test_meshes_with_another_up_axis_are_turned_and_sized(ellipsoids, load, tmp_path, up):
    split = Split(ellipsoids, "test")
    i = split.objects.index("test/plate")  # flat along +Y
    name = view_name("test/plate", 0)
    solid = trimesh.creation.box(extents=(3.0, 0.5, 2.0))
    solid.apply_translation((0.0, 7.0, 0.0))
    solid.vertices = solid.vertices @ frame.rotation(up)  # the inverse of the rotation: rows are multiplied
    solid.export(tmp_path / f"{name}.obj")
    (mesh,) = results(load(up=up), split, [(i, 0)])
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), np.array([3.0, 0.5, 2.0]) * 1.9 / 3, atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(0) + mesh.vertices.min(0), 0, atol=1e-6)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).volume > 0  # not inside out: never mirrored


def test_a_glb_with_nested_transforms(ellipsoids, load, tmp_path):
    split = Split(ellipsoids, "test")
    scene = trimesh.Scene()
    half_turn = trimesh.transformations.rotation_matrix(np.pi / 2, (0, 0, 1))
    scene.graph.update(frame_to="parent", frame_from=scene.graph.base_frame, matrix=np.diag([2.0, 2.0, 2.0, 1.0]))
    scene.graph.update(frame_to="child", frame_from="parent", matrix=half_turn)
    shift = trimesh.transformations.translation_matrix((3.0, 0.0, 0.0))
    scene.add_geometry(trimesh.creation.box(extents=(2, 1, 1)), parent_node_name="child")
    scene.add_geometry(trimesh.creation.box(extents=(2, 1, 1)), parent_node_name="child", transform=shift)
    scene.export(tmp_path / f"{view_name('test/ball', 0)}.glb")
    (mesh,) = results(load(), split, [(split.objects.index("test/ball"), 0)])
    # Along x before the turn: from -1 to 4, so 5 x 1 x 1; the quarter turn about z lays it along y.
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), np.array([1, 5, 1]) * 1.9 / 5, atol=1e-6)
    assert len(mesh.faces) == 24


def test_an_unusable_file_is_a_failure_with_its_reason(ellipsoids, load, tmp_path):
    split = Split(ellipsoids, "test")
    (tmp_path / f"{view_name('test/ball', 0)}.glb").write_bytes(b"glTF and then nothing")
    (bad,) = results(load(), split, [(split.objects.index("test/ball"), 0)])
    assert isinstance(bad, Failure) and bad.reason.startswith("unusable mesh: ")


def test_no_folder_and_other_test_data_are_one_sentence(ellipsoids, prepared, load, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        load(root=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="fit the stage `index` again"):
        results(load(), Split(prepared, "test"), [(0, 0)])


def test_what_is_missing_is_a_failed_row_and_strays_are_named(
    ellipsoids, methods_folder, tmp_path, monkeypatch, capsys
):
    for name, room in (("resolve", registry), ("method_sources", sources)):
        real = getattr(room, name)
        monkeypatch.setattr(generate, name, lambda *a, real=real: real(*a, folder=methods_folder))
    data, split = PreparedData(ellipsoids, "ellipsoids", "smoke"), Split(ellipsoids, "test")
    fit("external", "full", "index", data, seed=0, runs=tmp_path / "runs", threads=1)
    chosen = {split.objects[i]: v for i, v in evaluation_views(split, 1)}
    for object in ("test/ball", "test/pole"):
        trimesh.creation.box().export(tmp_path / "meshes" / f"{view_name(object, chosen[object])}.stl")
    trimesh.creation.box().export(tmp_path / "meshes" / "stray.ply")

    def run(views=1):
        options = dict(seed=0, runs=tmp_path / "runs", out=tmp_path / "out", threads=1, views=views)
        lines = generate.generate("triposr", "full", data, **options).read_text().splitlines()
        return {row["object"]: row for row in map(json.loads, lines)}

    rows = run()
    assert {object: (row["status"], row["reason"]) for object, row in rows.items()} == {
        "test/ball": ("ok", None),
        "test/cigar": ("failed", "missing"),
        "test/plate": ("failed", "missing"),
        "test/pole": ("ok", None),
    }
    log = capsys.readouterr().err
    assert "meshes of 2 of 4 test objects" in log
    assert "test/cigar, test/plate" in log and "stray.ply" in log
    assert f"would be called {view_name('test/cigar', chosen['test/cigar'])}.glb" in log
    assert "2 of 4 objects have no mesh" in log
    before = json.loads((tmp_path / "out/manifest.json").read_text())["identity"]["meshes"]
    trimesh.creation.box().export(tmp_path / "meshes" / f"{view_name('test/plate', chosen['test/plate'])}.stl")
    assert run()["test/plate"]["status"] == "ok"
    assert json.loads((tmp_path / "out/manifest.json").read_text())["identity"]["meshes"] != before


def test_a_config_of_kind_external_needs_little_and_its_mistakes_are_one_sentence(methods_folder):
    spec = registry.get_method("triposr", methods_folder)
    assert (spec.first_variant, spec.variants["full"].label, spec.stochastic) == ("full", "TripoSR", False)
    plan = registry.resolve("triposr", "full", "cpu", methods_folder)
    assert plan.params["up"] == "z" and plan.params["pattern"] == "{name}.v{view}"
    base = registry.resolve("external", "full", "cpu", methods_folder)
    assert plan.stages == base.stages  # the index is made once for all
    assert isinstance(make_method(plan.method, plan.params), External)
    assert {"data/load.py", "methods/external/method.py"} <= set(sources.method_sources("triposr", methods_folder))
    config = methods_folder / "triposr/config.yaml"
    config.write_text(config.read_text().replace("up: z", "upp: z"))
    registry._load_methods.cache_clear()
    with pytest.raises(UserError, match="did you mean 'up'"):
        registry.load_methods(methods_folder)
    registry._load_methods.cache_clear()
