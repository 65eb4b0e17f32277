"""The object lists that a bundle takes along, and the configuration that finds them there.

Names and splits are all that planning needs: the meshes stay at home, whatever their source.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.identity import ROOT
from data.sources import DOWNLOADED, ObjectSpec, list_objects
from pipeline.dag import Dag, missing_lists

Texts = dict[str, bytes]


def lists_of(dag: Dag) -> tuple[Texts, dict[str, dict[str, Any]]]:
    """Files by their name in the bundle, and the entries of `datasets` that read them.

    Of the run's dataset and, for a test set, of the one that is trained on, since no object may be in both.
    """
    texts: Texts = {}
    entries: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((dag.dataset, dag.trained_on)):
        source = dag.config["datasets"][name]
        if source["source"] == "folder":
            objects = dag.objects if name == dag.dataset else list_objects(source)
            found = _of_folder(source, objects, "meshes" if name == dag.dataset else f"meshes_{name}")
        elif source["source"] in DOWNLOADED:
            if name != dag.dataset and missing_lists(source):
                continue  # of what was trained elsewhere; the run has said that it cannot look
            found = _of_lists(source, name)
        else:
            continue
        texts |= found[0]
        entries[name] = found[1]
    return texts, entries


def _of_folder(source: Mapping[str, Any], objects: Iterable[ObjectSpec], place: str) -> tuple[Texts, dict[str, Any]]:
    """The index of a folder of meshes: its own, or one that lists the same objects in the same splits."""
    entry = {**source, "root": place, "index": source.get("index") or "index.csv"}
    name = f"{place}/{entry['index']}"
    if source.get("index"):
        return {name: (Path(source["root"]) / source["index"]).read_bytes()}, entry
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("id", "path", "split", "category"))
    writer.writerows((spec.object, spec.path, spec.split, spec.category) for spec in objects)
    return {name: text.getvalue().encode()}, entry


def _of_lists(source: Mapping[str, Any], name: str) -> tuple[Texts, dict[str, Any]]:
    """The lists of a source that is downloaded, as they are."""
    texts: Texts = {}
    lists = []
    for number, one in enumerate(source["lists"]):
        path = ROOT / Path(one["path"]).expanduser()
        place = f"lists/{name}/{number}_{path.name}"  # two lists may have the same name
        texts[place] = path.read_bytes()
        lists.append({**one, "path": place})
    root = Path(source["root"])
    inside = not root.expanduser().is_absolute() and ".." not in root.parts
    return texts, {**source, "lists": lists, "root": str(root) if inside else f"runs/raw/{name}"}
