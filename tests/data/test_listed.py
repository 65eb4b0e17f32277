"""Object lists: every format, splits, phases and hold-outs, and ids that must not become paths."""

import gzip
import json

import pytest

from core.errors import UserError
from data.sources import DOWNLOADED, list_objects
from data.sources.listed import read_list


def mapping(tmp_path, *lists, **more):
    return {"source": "gso", "root": str(tmp_path / "raw"), "lists": list(lists), **more}


def write(path, text):
    path.write_text(text)
    return str(path)


IDS = ["a1", "b2", "c3"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.txt", "# three\na1\nb2.glb\n\nglbs/000-001/c3.glb\n"),
        ("l.json", json.dumps(IDS)),
        ("l.json", json.dumps(dict.fromkeys(IDS, "x.glb"))),
        ("l.csv", "# three\nid,split\na1,test\nb2,test\nc3,test\n"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_lists_are_read_as_they_are_handed_round(tmp_path, name, content, zipped):
    path = tmp_path / (name + ".gz" if zipped else name)
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    assert [line.id for line in read_list(path)] == IDS


@pytest.mark.parametrize("id", ["../up", "/etc/passwd", ".hidden", "a b", "a/../b", "", "x" * 300])
def test_ids_that_are_no_names_are_refused(tmp_path, id):
    path = write(tmp_path / "l.csv", f'id,split\n"{id}",test\n')
    with pytest.raises(UserError, match="ids are letters"):
        list_objects(mapping(tmp_path, {"path": path}))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.csv", "name,split\na,test\n", "lacks the column id"),
        ("l.json", "3", "not an array"),
        ("l.json", "[", "cannot be read"),
        ("l.txt.gz", "not zipped", "cannot be read"),
        ("l.csv", "id\na\n", "a has no split"),
        ("l.csv", "id,split\na,trian\n", "a has no split"),
        ("l.csv", "id,split\na,train\na,test\n", "a is in train and in test"),
    ],
)
def test_a_wrong_list_is_one_clear_sentence(tmp_path, name, content, says):
    with pytest.raises(UserError, match=says):
        list_objects(mapping(tmp_path, {"path": write(tmp_path / name, content)}))


def test_a_list_that_is_not_here_says_where_lists_come_from(tmp_path):
    with pytest.raises(UserError, match=r"no object list .*docs/datasets\.md"):
        list_objects(mapping(tmp_path, {"path": str(tmp_path / "none.csv")}))


def test_an_object_of_two_lists_is_in_the_phases_of_both(tmp_path):
    broad = {"path": write(tmp_path / "broad.txt", "a\nb\nc\n"), "split": "train", "phase": "broad"}
    fine = {"path": write(tmp_path / "fine.txt", "c\nd\n"), "split": "train", "phase": "fine"}
    phases = {spec.object: spec.phases for spec in list_objects(mapping(tmp_path, broad, fine))}
    assert phases == {"a": ("broad",), "b": ("broad",), "c": ("broad", "fine"), "d": ("fine",)}


def test_what_is_held_out_is_in_no_phase_and_does_not_depend_on_order(tmp_path):
    names = [f"x{i}" for i in range(40)]
    entry = {"split": "train", "phase": "broad"}
    one = {**entry, "path": write(tmp_path / "1.txt", "\n".join(names))}
    two = {**entry, "path": write(tmp_path / "2.txt", "\n".join(reversed(names)))}
    hold_out = {"val": 5, "test": 3}
    found = list_objects(mapping(tmp_path, one, hold_out=hold_out))
    assert found == list_objects(mapping(tmp_path, two, hold_out=hold_out))
    splits = [spec.split for spec in found]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (32, 5, 3)
    assert all(spec.phases == (("broad",) if spec.split == "train" else ()) for spec in found)
    fewer = list_objects(mapping(tmp_path, one, hold_out=hold_out, limit={"train": 10}))
    assert [s for s in fewer if s.split == "train"] == [s for s in found if s.split == "train"][:10]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"rot": 1}, "does not know 'rot'"),
        ({"root": ""}, "lacks the key 'root'"),
        ({"lists": []}, "lacks the key 'lists'"),
        ({"limit": {"trian": 1}}, "trian"),
        ({"lists": [{"file": "x"}]}, "an entry of `lists`"),
    ],
)
def test_a_wrong_mapping_is_one_clear_sentence(tmp_path, more, says):
    source = mapping(tmp_path, {"path": write(tmp_path / "l.csv", "id,split\na,test\n")}) | more
    with pytest.raises(UserError, match=says):
        list_objects(source)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_listing_reads_lists_alone(tmp_path, name):
    """A workflow is planned before anything is downloaded."""
    entry = {"path": write(tmp_path / "l.csv", "id,split,category\ntoy_car_001,test,\n")}
    (spec,) = list_objects({**mapping(tmp_path, entry), "source": name})
    assert spec.object == "toy_car_001" and spec.source == name
    assert spec.category == ("toy_car" if name == "omniobject3d" else "")


def test_the_committed_list_is_of_a_hundred_different_objects():
    from collections import Counter

    found = list_objects({"source": "gso", "root": "raw", "lists": [{"path": "data/lists/gso_test.csv"}]})
    assert Counter(spec.split for spec in found) == {"test": 100} and len({spec.object for spec in found}) == 100
