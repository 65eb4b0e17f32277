"""A generated folder to rows: order, failures, determinism, the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trimesh

from core.errors import UserError
from core.identity import ROOT
from data.store import Split
from evaluation import protocol, rows
from evaluation.__main__ import main

LABELS = {"dataset": "tiny", "scale": "smoke", "method": "mar3d", "variant": "full", "seed": 3}


@pytest.fixture(scope="module")
def generated(ellipsoids: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true meshes of two views as if they were generated, one missing file, one failure, one broken mesh."""
    folder = tmp_path_factory.mktemp("generated")
    split = Split(ellipsoids, "test")
    (folder / "meshes").mkdir()
    lines = []
    for i in range(len(split)):
        for v in (1, 0):
            sample = split.sample(i, v)
            path = f"meshes/{i}.v{v:02d}.ply"
            trimesh.Trimesh(*sample.mesh(), process=False).export(folder / path)
            line = {"object": sample.object, "view": v, "category": "ellipsoid", "status": "ok", "reason": None}
            line |= {"mesh": path, "seconds": {"condition": 0.5, "sample": 1.0, "decode": 2.0, "mesh": 0.25}}
            lines.append(line)
    lines[2] |= {"status": "failed", "reason": "the field has no surface", "mesh": None, "seconds": {"sample": 1.0}}
    (folder / lines[4]["mesh"]).unlink()
    (folder / lines[5]["mesh"]).write_text("no mesh")
    (folder / "generate.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def quick() -> protocol.Protocol:
    """v1 with few points."""
    v1 = protocol.load("v1")
    return replace(v1, points=4000, viou=(32,), align=replace(v1.align, icp_points=1000, subset=500))


@pytest.fixture(scope="module")
def table(generated, ellipsoids, quick) -> pd.DataFrame:
    """Rows made by two processes."""
    return rows.score_folder(generated, ellipsoids, quick, LABELS, processes=2)


def test_columns_are_those_of_the_design(table, quick):
    assert list(table.columns) == [
        "dataset", "scale", "object", "view", "category", "method", "variant", "seed", "protocol", "status", "reason",
        *quick.metrics, *(f"{name}_before" for name in quick.metrics), "rotation_deg", "align_scale", "residual",
        "start", "rotation_x", "rotation_y", "rotation_z", "translation_x", "translation_y", "translation_z",
        "vertices", "faces", "watertight", "components",
        "seconds_condition", "seconds_sample", "seconds_decode", "seconds_mesh",
    ]  # fmt: skip


def test_rows_stand_in_the_order_of_the_generation(table, generated):
    lines = [json.loads(line) for line in (generated / "generate.jsonl").read_text().splitlines()]
    assert [(row.object, row.view) for row in table.itertuples()] == [(line["object"], line["view"]) for line in lines]
    for key, value in LABELS.items():
        assert (table[key] == value).all()


def test_the_truth_itself_scores_at_the_floor(table):
    good = table[table.status == "ok"]
    assert len(good) == 5
    assert (good.reason == "").all()
    assert (good.cd_avg_before < 0.04).all()  # floor: 0.5 sqrt(area / 4000), area below 12.6
    assert (good.viou_32_before == 1).all()
    assert (good.watertight & (good.components == 1)).all()
    assert (good.vertices == 642).all()
    assert (good.seconds_decode == 2.0).all()


def test_failures_are_rows_with_the_worst_numbers_and_a_reason(table):
    bad = table[table.status == "failed"]
    assert list(bad.index) == [2, 4, 5]
    assert bad.reason[2] == "the field has no surface"
    assert "missing" in bad.reason[4]
    assert "cannot be read" in bad.reason[5]
    assert bad.cd_avg.to_numpy() == pytest.approx(2 * np.sqrt(3))
    assert (bad[["fscore_0.1", "nc", "viou_32", "fscore_0.1_before"]] == 0).all(axis=None)
    assert bad.rotation_deg.isna().all()
    assert bad.seconds_sample[2] == 1.0
    assert np.isnan(bad.seconds_decode[2])


def test_rows_do_not_depend_on_the_number_of_processes(table, generated, ellipsoids, quick, tmp_path):
    split = Split(ellipsoids, "test")
    here = [rows.score_task(task, split, quick) for task in rows.read_tasks(generated, split)]
    again = pd.DataFrame([LABELS | {"protocol": "v1"} | row for row in here])[list(table.columns)].astype(table.dtypes)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    for name, frame in (("a", table), ("b", again)):
        rows.write(frame, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a"), table)


@pytest.mark.parametrize("change, message", [
    ({"object": "stranger"}, "'stranger' is not in the test split"),
    ({"view": 99}, "view 99 does not exist"),
    ({"mesh": None}, "line 1 is not a record"),
])  # fmt: skip
def test_records_of_something_else_are_one_line(generated, ellipsoids, tmp_path, change, message):
    line = json.loads((generated / "generate.jsonl").read_text().splitlines()[0])
    (tmp_path / "generate.jsonl").write_text(json.dumps(line | change) + "\n")
    with pytest.raises(UserError, match=message):
        rows.read_tasks(tmp_path, Split(ellipsoids, "test"))


@pytest.mark.parametrize("text, message", [("", "is empty"), ("{", "line 1 is not a record"), ("[1]", "not a record")])
def test_a_broken_list_is_one_line(ellipsoids, tmp_path, text, message):
    (tmp_path / "generate.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        rows.read_tasks(tmp_path, Split(ellipsoids, "test"))


def test_a_folder_without_generation_says_what_to_run(ellipsoids, tmp_path):
    with pytest.raises(UserError, match="python -m methods generate"):
        rows.read_tasks(tmp_path, Split(ellipsoids, "test"))


def command(generated: Path, prepared: Path, out: Path) -> list[str]:
    arguments = ["rows", "--generated", str(generated), "--prepared", str(prepared), "--out", str(out)]
    arguments += ["--protocol", "instantmesh", "--threads", "2", "--seed", "0"]
    for key in ("dataset", "scale", "method", "variant"):
        arguments += [f"--{key}", "x"]
    return arguments


def test_the_command_writes_rows(generated, ellipsoids, tmp_path, capfd):
    out = tmp_path / "deep" / "rows.parquet"
    assert main(command(generated, ellipsoids, out)) == 0
    table = pd.read_parquet(out)
    assert len(table) == 8
    assert (table.protocol == "instantmesh").all()
    assert "fscore_0.2" in table
    assert "viou_64" not in table
    assert "8/8, 3 failed" in capfd.readouterr().err
    assert list(out.parent.iterdir()) == [out]


TALKATIVE = """
from core.errors import run_cli
from core.progress import Progress
from evaluation.__main__ import main
Progress.__init__.__kwdefaults__["every"] = 0.0
run_cli(main)
"""


def test_a_killed_scoring_leaves_nothing_and_gives_the_same_rows_when_run_again(generated, ellipsoids, tmp_path):
    out = tmp_path / "rows.parquet"
    line = [sys.executable, "-c", TALKATIVE, *command(generated, ellipsoids, out)]
    with subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert "1/8" in process.stderr.readline()
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not any(tmp_path.iterdir())
    assert main(command(generated, ellipsoids, out)) == 0
    split, recipe = Split(ellipsoids, "test"), protocol.load("instantmesh")
    here = [rows.score_task(task, split, recipe) for task in rows.read_tasks(generated, split)]
    table = pd.read_parquet(out)
    labels = {key: "x" for key in ("dataset", "scale", "method", "variant")} | {"seed": 0, "protocol": "instantmesh"}
    again = pd.DataFrame([labels | row for row in here])[list(table.columns)].astype(table.dtypes)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
