"""From meshes to shards: bad objects are left out with a reason, the rest is exact, repeatable and never half."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

import data.objects
from core.errors import UserError
from data.__main__ import main
from data.prepare import DEFAULTS, check_params, prepare_shard, shard_count, shard_path, shard_specs, split_params
from data.quarantine import quarantine_path, read_quarantine
from data.sources import list_objects
from data.store import Split

ROOT = Path(__file__).resolve().parents[2]
PARAMS = {"points": 256, "volume": 512, "near": 512, "grid": 48, "azimuths": 2, "rotations": 1, "image_size": 24}
SETTINGS = [f"{name}={value}" for name, value in PARAMS.items()]


@pytest.fixture
def meshes(tmp_path):
    """A folder of four good meshes and one that is not a mesh, with an index."""
    root = tmp_path / "meshes"
    root.mkdir()
    good = {
        "ball": trimesh.creation.icosphere(4, 3.0),
        "box": trimesh.creation.box((1, 2, 3)),
        "ring": trimesh.creation.torus(1.0, 0.3),
        "rod": trimesh.creation.cylinder(0.2, 2.0),
    }
    for name, mesh in good.items():
        mesh.apply_translation([5, 0, -7]).export(root / f"{name}.ply")
    (root / "letter.obj").write_text("dear reader, this is not a mesh\n")
    splits = {"ball": "train", "letter": "train", "box": "train", "ring": "val", "rod": "test"}
    lines = [f"{name},{name}.{'obj' if name == 'letter' else 'ply'},{split},thing" for name, split in splits.items()]
    (root / "index.csv").write_text("id,path,split,category\n" + "\n".join(lines) + "\n")
    return {"source": "folder", "root": str(root), "index": "index.csv"}


def _prepare(source, out, split="train", params=PARAMS):
    specs = [spec for spec in list_objects(source) if spec.split == split]
    path = shard_path(out, split, 0)
    return prepare_shard(specs, source, params, path, dataset="things"), path


def test_a_bad_object_is_left_out_with_a_reason_and_the_rest_goes_on(meshes, tmp_path, capsys):
    counts, path = _prepare(meshes, tmp_path / "out")
    assert counts == (2, 1)
    assert sorted(Split(tmp_path / "out", "train").objects) == ["ball", "box"]
    ((name, source, place, reason),) = read_quarantine(quarantine_path(path))
    assert (name, source, place) == ("letter", "folder", "letter.obj") and len(reason) > 10
    assert "left out 1 of 3 objects" in capsys.readouterr().err


def test_an_unexpected_error_of_one_object_is_a_reason_too(meshes, tmp_path, monkeypatch):
    real = data.objects.load

    def load(spec, source):
        if spec.object == "box":
            raise RuntimeError("the library\nbroke")
        return real(spec, source)

    monkeypatch.setattr(data.objects, "load", load)
    counts, path = _prepare(meshes, tmp_path)
    assert counts == (1, 2)
    assert ("box", "folder", "box.ply", "could not be prepared (RuntimeError: the library broke)") in read_quarantine(
        quarantine_path(path)
    )


def test_labels_of_a_sphere_agree_with_its_formula(meshes, tmp_path):
    _prepare(meshes, tmp_path, params=PARAMS | {"volume": 4000, "near": 4000, "grid": 64})
    split = Split(tmp_path, "train")
    positions, labels, n_volume = split.occupancy(split.objects.index("ball"))
    radius = np.linalg.norm(positions, axis=1)
    exact = radius < 0.95
    clear = np.abs(radius - 0.95) > 0.005  # the icosphere's faces lie up to 0.003 below the sphere
    assert clear[n_volume:].mean() > 0.4
    assert np.array_equal(labels[clear], exact[clear])
    points, normals = split.surface(split.objects.index("ball"))
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.full(256, 0.95), abs=0.005)
    assert (points * normals).sum(1).min() > 0.9


def test_image_mesh_and_view_agree(meshes, tmp_path):
    """Render the stored mesh of the view frame anew: the picture is the one that was stored."""
    from data.render import Scene
    from data.views import View

    _prepare(meshes, tmp_path)
    split = Split(tmp_path, "train")
    assert len(split) == 2
    for i in range(len(split)):
        for v in range(split.n_views):
            sample = split.sample(i, v)
            plain = View(np.eye(3, dtype=np.float32), 1.0, np.zeros(3, np.float32), sample.view.elevation, 0.0, True)
            again = Scene(*sample.mesh()).render(plain, split.image_size).image
            difference = np.abs(again.astype(int) - sample.image())
            assert (difference.max(-1) > 70).mean() < 0.01  # a ray or two on an edge
            assert difference[..., 3].mean() < 2


def test_same_inputs_same_bytes_whatever_the_neighbours(meshes, tmp_path):
    _, first = _prepare(meshes, tmp_path / "a")
    _, second = _prepare(meshes, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    specs = [spec for spec in list_objects(meshes) if spec.object == "box"]
    prepare_shard(specs, meshes, PARAMS, shard_path(tmp_path / "c", "train", 0), dataset="things")
    alone, together = Split(tmp_path / "c", "train"), Split(tmp_path / "a", "train")
    i = together.objects.index("box")
    assert np.array_equal(alone.surface(0)[0], together.surface(i)[0])
    assert np.array_equal(alone.occupancy(0)[1], together.occupancy(i)[1])
    assert np.array_equal(alone.image(0, 3), together.image(i, 3))


def test_val_and_test_have_their_own_number_of_rotations(meshes, tmp_path):
    for split in ("train", "val", "test"):
        _prepare(meshes, tmp_path, split)
    assert [Split(tmp_path, split).n_views for split in ("train", "val", "test")] == [4, 2, 2]
    assert split_params({"rotations": 6, "val_rotations": 1}, "test")["rotations"] == 1


def test_normal_and_depth_are_kept_where_asked(meshes, tmp_path):
    _prepare(meshes, tmp_path, params=PARAMS | {"keep": ["normal", "depth"]})
    split = Split(tmp_path, "train")
    seen = split.image(0, 0)[..., 3] == 255
    assert np.linalg.norm(split.normal(0, 0)[seen], axis=1) == pytest.approx(np.ones(seen.sum()), abs=0.02)
    assert split.depth(0, 0)[seen].min() > 0.5 and (split.depth(0, 0)[split.image(0, 0)[..., 3] == 0] == 0).all()
    _prepare(meshes, tmp_path, "val")
    with pytest.raises(UserError, match="keep"):
        Split(tmp_path, "val").depth(0, 0)


def test_large_meshes_are_decimated_for_storage(meshes, tmp_path):
    _prepare(meshes, tmp_path, params=PARAMS | {"faces": 1000})
    split = Split(tmp_path, "train")
    i = split.objects.index("ball")
    vertices, faces = split.mesh(i)
    assert len(faces) <= 1000 and split.about[i]["loaded_faces"] == "5120"
    assert np.linalg.norm(vertices, axis=1) == pytest.approx(np.full(len(vertices), 0.95), abs=0.02)


def test_shards_divide_a_split(meshes):
    specs = list_objects({"source": "procedural", "counts": {"train": 10, "val": 1, "test": 0}})
    assert [shard_count(specs, split, 4) for split in ("train", "val", "test")] == [3, 1, 0]
    parts = [shard_specs(specs, "train", shard, 4) for shard in range(3)]
    assert [len(part) for part in parts] == [4, 4, 2]
    assert [spec for part in parts for spec in part] == [spec for spec in specs if spec.split == "train"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"points": 64, "drawn": 24}, "drawn is 24: it must be at least 16, and divide the 64 points"),
        ({"point": 3}, "unknown prepare parameter 'point'"),
        ({"points": 3}, "at least 16"),
        ({"points": "many"}, "whole number"),
        ({"sigmas": []}, "positive numbers"),
        ({"shading": "chrome"}, "clay, texture"),
        ({"keep": ["albedo"]}, "normal and depth"),
    ],
)
def test_wrong_parameters_are_one_clear_line(wrong, message):
    with pytest.raises(UserError, match=message):
        check_params(wrong)
    assert check_params({}) == DEFAULTS
    assert check_params({"points": 64, "drawn": 16}) == DEFAULTS | {"points": 64, "drawn": 16}


def test_planning_imports_nothing_heavy():
    heavy = "('scipy', 'trimesh', 'torch', 'PIL')"
    code = f"import sys, data.prepare, data.sources; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


def test_command_prepares_joins_and_shows(meshes, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["prepare", "--source", meshes["root"], "--index", "index.csv", "--out", str(out), "--shard-size", "1"]
    assert main([*command, "--set", *SETTINGS]) == 0
    assert "train: 2 objects in 3 shard(s)" in capsys.readouterr().out
    rows = list(csv.DictReader((out / "quarantine.csv").read_text().splitlines()))
    assert [(row["split"], row["object"]) for row in rows] == [("train", "letter")]
    manifest = json.loads((out / "manifest.json").read_text())
    assert {s: (e["objects"], e["left_out"]) for s, e in manifest["splits"].items()} == {
        "train": (2, 1),
        "val": (1, 0),
        "test": (1, 0),
    }

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert main([*command, "--set", *SETTINGS]) == 0  # nothing is made twice
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    with pytest.raises(UserError, match="other parameters"):
        main([*command, "--set", *SETTINGS, "points=128"])

    main(["preview", "--prepared", str(out), "--split", "train", "--out", str(tmp_path / "sheet.png")])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (5 * 24 + 8, 2 * (24 + 14))
    main(["info", "--prepared", str(out)])
    assert "train: 2 objects" in capsys.readouterr().out


def test_one_shard_for_the_workflow(meshes, tmp_path):
    job = {
        "dataset": "things",
        "source": meshes,
        "params": PARAMS,
        "split": "train",
        "shard": 1,
        "shard_size": 2,
        "out": str(tmp_path / "out"),
    }
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job))
    main(["prepare", "--job", str(file)])
    by_file = shard_path(tmp_path / "out", "train", 1).read_bytes()
    main(["prepare", "--job", json.dumps(job)])
    assert shard_path(tmp_path / "out", "train", 1).read_bytes() == by_file
    with pytest.raises(UserError, match="lacks split"):
        main(["prepare", "--job", json.dumps({k: v for k, v in job.items() if k != "split"})])


def test_a_split_that_lost_all_objects_is_an_error(tmp_path):
    root = tmp_path / "meshes"
    root.mkdir()
    for k in range(3):
        (root / f"{k}.obj").write_text("no mesh\n")
    with pytest.raises(UserError, match="no object of train"):
        main(["prepare", "--source", str(root), "--out", str(tmp_path / "out"), "--set", *SETTINGS])


def test_killed_at_any_moment_it_leaves_no_half_file_and_goes_on(tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "data",
        "prepare",
        "--train",
        "6",
        "--val",
        "1",
        "--test",
        "1",
        "--shard-size",
        "2",
    ]
    command += ["--out", str(out), "--set", *SETTINGS]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    first = shard_path(out, "train", 0)
    while not first.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = first.read_bytes()
    for path in out.rglob("[0-9]*.safetensors"):
        assert quarantine_path(path).exists()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert first.read_bytes() == kept and len(Split(out, "train")) == 6

    whole = tmp_path / "whole"
    subprocess.run([*command, "--out", str(whole)], cwd=ROOT, check=True, capture_output=True)
    hashes = [json.loads((folder / "manifest.json").read_text())["data_hash"] for folder in (out, whole)]
    assert hashes[0] == hashes[1]
