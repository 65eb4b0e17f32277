"""The procedural source: every family gives clean solids, from its name alone, in the right split."""

import subprocess
import sys

import numpy as np
import pytest
import trimesh

from core.errors import UserError
from data.load import normalise
from data.sources import list_objects, load
from data.sources.procedural import FAMILIES, HELD_OUT_EVERY, make
from data.watertight import make_solid

SOURCE = {"source": "procedural", "counts": {"train": 60, "val": 30, "test": 40}, "held_out_family": "teapot"}


def test_there_are_ten_families_and_csg():
    from data.sources.families import BUILDERS

    assert set(BUILDERS) == set(FAMILIES) and "csg" in FAMILIES and len(FAMILIES) > 10


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_makes_clean_solids(family):
    points = np.random.default_rng(0).uniform(-1.05, 1.05, (20_000, 3))
    for number in range(4):
        mesh = make(f"val-{family}-{number:05d}")
        vertices, _, _ = normalise(mesh.vertices)
        mesh.vertices = vertices
        shape = trimesh.Trimesh(vertices, mesh.faces, process=False)
        assert mesh.solid and shape.is_watertight and shape.is_winding_consistent
        assert len(mesh.faces) <= 20_000
        assert shape.body_count == 1 or family in ("chain", "csg")
        assert 0.001 < shape.volume / 1.9**3 < 1.0
        share = make_solid(mesh, 128).inside(points).mean()  # overlapping parts would make the two differ
        assert abs(share * 2.1**3 - shape.volume) < 5 * 2.1**3 * np.sqrt(share / len(points)) + 1e-3


@pytest.mark.parametrize("family", ["chair", "csg", "spectacles"])
def test_the_name_alone_decides(family):
    first, again, other = (make(f"{split}-{family}-00003") for split in ("train", "train", "test"))
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)
    assert first.vertices.shape != other.vertices.shape or not np.allclose(first.vertices, other.vertices)


def test_another_process_makes_the_same_object():
    code = "from data.sources.procedural import make; import hashlib; m = make('train-mug-00001'); "
    code += "print(hashlib.sha256(m.vertices.tobytes() + m.faces.tobytes()).hexdigest())"
    digests = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert len(digests) == 1 and len(digests.pop()) == 65


def test_names_are_unique_and_splits_are_counted():
    objects = list_objects(SOURCE)
    assert len({spec.object for spec in objects}) == len(objects) == 130
    counts = {split: sum(spec.split == split for spec in objects) for split in ("train", "val", "test")}
    assert counts == SOURCE["counts"]


def test_the_held_out_family_is_in_test_only():
    objects = list_objects(SOURCE)
    held_out = [spec for spec in objects if spec.category == "teapot"]
    assert {spec.split for spec in held_out} == {"test"} and len(held_out) == 40 // HELD_OUT_EVERY
    assert {spec.category for spec in objects if spec.split == "test"} == set(FAMILIES)


def test_every_first_part_is_balanced_and_more_objects_keep_the_first():
    few, many = list_objects({**SOURCE, "counts": {"train": 25}}), list_objects({**SOURCE, "counts": {"train": 100}})
    assert many[:25] == few
    assert len({spec.category for spec in few}) == 25


def test_families_can_be_chosen():
    objects = list_objects({**SOURCE, "families": ["mug", "chair"]})
    assert {spec.category for spec in objects if spec.split == "train"} == {"mug", "chair"}
    assert {spec.category for spec in objects if spec.split == "test"} == {"mug", "chair", "teapot"}


@pytest.mark.parametrize(
    "change", [{"held_out_family": "unicorn"}, {"families": ["teapot"]}, {"count": 3}, {"counts": {"training": 3}}]
)
def test_a_wrong_mapping_is_one_clear_sentence(change):
    with pytest.raises(UserError):
        list_objects({**SOURCE, **change})


def test_load_gives_the_object_of_its_name():
    spec = list_objects(SOURCE)[3]
    assert np.array_equal(load(spec, SOURCE).vertices, make(spec.object).vertices)


def test_listing_imports_no_geometry():
    code = f"import sys; from data.sources import list_objects; list_objects({SOURCE!r}); "
    code += "print([m for m in ('trimesh', 'scipy', 'manifold3d', 'embreex', 'torch') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
