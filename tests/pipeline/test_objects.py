"""The lists in a bundle name the same objects there as here, whatever the source."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import yaml

from data.sources import list_objects
from pipeline.config import load
from pipeline.dag import Dag
from pipeline.objects import lists_of


def dag(source, **others):
    return Dag(load({"scale": "smoke", "dataset": "mine", "datasets": {"mine": source, **others}}))


def there(mine, folder):
    """What the lists name once they lie below `folder`: the objects of each dataset that has some."""
    texts, entries = lists_of(mine)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text)
    found = {}
    for name, entry in yaml.safe_load(yaml.safe_dump(entries)).items():
        entry["lists"] = [one | {"path": str(folder / one["path"])} for one in entry.get("lists", ())]
        if entry["source"] == "folder":
            del entry["lists"]
            entry["root"] = str(folder / entry["root"])
        found[name] = list_objects(entry)
    return found


def a_list(folder, name, ids, split):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{id}\n" for id in ids).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return {"path": str(path), "split": split}


def test_lists_of_a_source_that_is_downloaded_come_along(tmp_path):
    ids = [f"object_{i:02d}" for i in range(12)]
    lists = [
        a_list(tmp_path / "a", "list.txt.gz", ids[:10], "train") | {"phase": "broad"},
        a_list(tmp_path / "b", "list.txt.gz", ids[5:10], "train") | {"phase": "fine"},  # the same name
        a_list(tmp_path, "rest.txt", ids[10:], "test"),
    ]
    source = {"source": "objaverse", "root": str(tmp_path / "raw"), "lists": lists, "hold_out": {"val": 2}}
    mine = dag(source)
    assert len(mine.objects) == 12 and {spec.phases for spec in mine.objects} > {("broad", "fine"), ("broad",)}
    assert there(mine, tmp_path / "there") == {"mine": mine.objects}
    entry = lists_of(mine)[1]["mine"]
    assert not any(Path(path).is_absolute() for path in (entry["root"], *(one["path"] for one in entry["lists"])))


def test_a_test_set_takes_the_lists_of_what_it_is_trained_on_along(tmp_path):
    test = {"source": "gso", "root": "raw", "lists": [a_list(tmp_path, "test.txt", ["a", "b"], "test")]}
    home = {"source": "gso", "root": "raw", "lists": [a_list(tmp_path, "train.txt", "cdef", "train")]}
    mine = dag(test | {"trained_on": "home"}, home=home)
    found = there(mine, tmp_path / "there")
    assert {name: sorted(spec.object for spec in specs) for name, specs in found.items()} == {
        "mine": ["a", "b"],
        "home": ["c", "d", "e", "f"],
    }


def test_a_folder_of_meshes_is_the_same_dataset_without_its_meshes(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    for name in ("chair a", "b", "c", "d"):
        (home / f"{name}.obj").touch()
    mine = dag({"source": "folder", "root": str(home)})
    there(mine, tmp_path / "there")
    away = dag({**lists_of(mine)[1]["mine"], "root": str(tmp_path / "there/meshes")})
    assert away.prepared == mine.prepared
    assert away.raw_meshes(SimpleNamespace(split="train", shard="00000")) == []


def test_what_is_made_from_seeds_needs_no_list():
    assert lists_of(Dag(load({"scale": "smoke"}))) == ({}, {})
