"""The folder source: index or no index, splits, filters, limits, and paths that must not leave the folder."""

import csv

import pytest
import trimesh

from core.errors import UserError
from data.load import BadMesh
from data.sources import ObjectSpec, list_objects, load

ROWS = [
    {"id": f"box {i}", "path": f"a/{i}.ply", "split": split, "category": "box", "source": "gso" if i % 2 else "kenney"}
    for i, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 4 + ["unused"])
]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a").mkdir()
    for row in ROWS:
        trimesh.creation.box((1, 2, 3)).export(tmp_path / row["path"])
    write_index(tmp_path, ROWS)
    return tmp_path


def write_index(root, rows):
    with (root / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def config(root, **changes):
    return {"source": "folder", "root": str(root), "index": "index.csv", **changes}


def test_the_index_names_objects_and_splits(root):
    objects = list_objects(config(root))
    assert len(objects) == 12 and [spec.split for spec in objects] == ["train"] * 6 + ["val"] * 2 + ["test"] * 4
    assert all(spec.object == spec.object.replace(" ", "_") and spec.category == "box" for spec in objects)
    assert {spec.source for spec in objects} == {"gso", "kenney"}
    assert len(load(objects[0], config(root)).faces) == 12


def test_the_order_does_not_depend_on_the_order_of_rows(root):
    before = list_objects(config(root))
    write_index(root, ROWS[::-1])
    assert list_objects(config(root)) == before


def test_a_limit_keeps_the_first_of_the_same_order(root):
    everything = [spec for spec in list_objects(config(root)) if spec.split == "train"]
    few = [spec for spec in list_objects(config(root, limit={"train": 2})) if spec.split == "train"]
    assert few == everything[:2]
    assert sum(spec.split == "test" for spec in list_objects(config(root, limit={"train": 2}))) == 4


def test_a_filter_works_on_its_split_alone(root):
    objects = list_objects(config(root, filter={"test": {"source": ["gso"]}}))
    assert [spec.source for spec in objects if spec.split == "test"] == ["gso", "gso"]
    assert sum(spec.split == "train" for spec in objects) == 6


def test_without_an_index_every_mesh_is_split_by_its_name(root):
    (root / "a" / "notes.txt").write_text("not a mesh")
    objects = list_objects({"source": "folder", "root": str(root)})
    splits = [spec.split for spec in objects]
    assert len(objects) == 13 and splits.count("test") == splits.count("val") == 1
    assert objects == list_objects({"source": "folder", "root": str(root)})
    assert {spec.category for spec in objects} == {"a"}


def test_names_that_clash_stay_apart(root):
    rows = [{**ROWS[0], "id": "same", "path": f"a/{i}.ply"} for i in range(3)]
    write_index(root, [*rows, {**ROWS[0], "id": "../Same"}])
    names = [spec.object for spec in list_objects(config(root))]
    assert len(set(names)) == 4 and not any("/" in name or name.startswith(".") for name in names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": "none.csv"}, "cannot read the index"),
        ({"limit": {"training": 3}}, "training"),
        ({"filter": {"test": {"colour": ["red"]}}}, "colour"),
        ({"rot": 1}, "rot"),
        ({"root": "/does/not/exist"}, "does not exist"),
        ({"filter": {s: {"source": ["nobody"]} for s in ("train", "val", "test")}}, "no object"),
    ],
)
def test_a_wrong_mapping_is_one_clear_sentence(root, changes, message):
    with pytest.raises(UserError, match=message):
        list_objects({**config(root), **changes})


def test_a_wrong_index_is_one_clear_sentence(root):
    write_index(root, [{**ROWS[0], "split": "trian"}])
    with pytest.raises(UserError, match="line 2: split 'trian'"):
        list_objects(config(root))
    write_index(root, [{"id": "a", "path": "b"}])
    with pytest.raises(UserError, match="lacks the column 'split'"):
        list_objects(config(root))


def spec(path) -> ObjectSpec:
    return ObjectSpec("x", "train", "", "folder", str(path))


def test_a_missing_file_is_found_when_it_is_loaded(root):
    write_index(root, [*ROWS, {**ROWS[0], "id": "gone", "path": "a/gone.ply"}])
    gone = next(spec for spec in list_objects(config(root)) if spec.object == "gone")
    with pytest.raises(BadMesh, match="missing"):
        load(gone, config(root))


def test_paths_do_not_leave_the_folder(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.ply"
    trimesh.creation.box((1, 1, 1)).export(outside)
    (root / "link.ply").symlink_to(outside)
    (root / "a" / "inner.ply").symlink_to(root / "a" / "0.ply")
    for path in (outside, f"../{outside.parent.name}/secret.ply", "link.ply"):
        with pytest.raises(BadMesh, match="leaves the folder"):
            load(spec(path), config(root))
    assert len(load(spec("a/inner.ply"), config(root)).faces) == 12
    with pytest.raises(BadMesh):
        load(spec(""), config(root))
