"""The contact sheet: a perfect mesh looks like the truth, a failure says so, a missing run is one sentence."""

import json

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from data.store import Split
from methods.meshes import file_name, write_ply
from methods.preview import contact_sheet


def test_a_perfect_mesh_looks_like_the_truth_and_a_failure_does_not(prepared, tmp_path):
    run = tmp_path / "method" / "variant" / "seed0"
    split, lines = Split(prepared, "test"), []
    for i, name in enumerate(split.objects[:2]):
        mesh = f"meshes/{file_name(name, 0)}"
        (run / "meshes").mkdir(parents=True, exist_ok=True)
        write_ply(run / mesh, *split.sample(i, 0).mesh())
        lines.append({"object": name, "view": 0, "status": "ok" if i == 0 else "failed", "mesh": mesh})
    (run / "generate.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert contact_sheet(prepared, [run], tmp_path / "sheet.png", size=32) == 2
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    first, second = sheet[14:46, :96], sheet[14:46, 104:200]
    assert np.array_equal(first[:, 32:64], first[:, 64:96]) and first[:, 64:96].min() < 200
    assert not np.array_equal(second[:, 32:64], second[:, 64:96])


def test_a_folder_without_results_is_one_sentence(prepared, tmp_path):
    with pytest.raises(UserError, match="generate first"):
        contact_sheet(prepared, [tmp_path], tmp_path / "sheet.png")
