"""The command line for people who have two meshes and no DAG."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trimesh

from core.errors import UserError
from evaluation.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(tmp_path) -> list[str]:
    """A box and a longer box, in two formats."""
    paths = [tmp_path / "a.obj", tmp_path / "b.glb"]
    for path, length in zip(paths, (2.0, 2.5), strict=True):
        trimesh.creation.box((length, 1, 0.7)).export(path)
    return [str(path) for path in paths]


def test_score_prints_before_and_after(pair, capsys):
    assert main(["score", *pair, "--protocol", "triposr"]) == 0
    out = capsys.readouterr().out
    assert "protocol triposr: 10000 points" in out
    assert "before" in out and "after" in out
    assert "fscore_0.5" in out
    assert "alignment: " in out
    assert "8 vertices, 12 faces, watertight, 1 component\n" in out


def test_score_prints_json_without_nan(pair, capsys):
    open_box = trimesh.load_mesh(pair[1])
    open_box.update_faces(range(10))
    open_box.export(pair[1])
    assert main(["score", *pair, "--protocol", "vecset", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["viou_64"] is None
    assert row["start"] == "none"
    assert row["truth_watertight"] is False
    assert row["cd_sum"] == pytest.approx(2 * row["cd_avg"])


def test_bad_input_is_one_line(pair, tmp_path):
    with pytest.raises(UserError, match="missing"):
        main(["score", str(tmp_path / "none.obj"), pair[1]])
    with pytest.raises(UserError, match="there is no protocol 'v9'"):
        main(["score", *pair, "--protocol", "v9"])


def test_protocols_are_listed(capsys):
    assert main(["protocols"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][:2] == ["v1", "instantmesh"]


def test_tables_and_rows_import_no_reader_of_meshes():
    code = "import sys, reports.table2, evaluation.rows, evaluation.score\n"
    code += "print([name for name in ('open3d', 'trimesh', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help_needs_no_heavy_library_and_errors_are_one_line():
    code = "import sys, evaluation.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('numpy', 'pykdtree', 'trimesh', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "python -m evaluation score prediction.obj truth.glb" in done.stdout
    command = [sys.executable, "-m", "evaluation", "score", "a.obj", "b.obj"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: a.obj: the mesh file is missing\n"
