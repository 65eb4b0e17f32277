"""The floor of the metrics: theory, the committed numbers, and the page that quotes them."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import trimesh

from core.errors import UserError
from core.identity import ROOT
from evaluation import floor
from evaluation.__main__ import main
from evaluation.surface import box, normalise

COMMITTED = ROOT / "evaluation/floor.csv"
TURNED = ROOT / "evaluation/turned.csv"


@pytest.fixture(scope="module")
def committed() -> pd.DataFrame:
    return pd.read_csv(COMMITTED)


def test_a_plane_square_has_the_floor_of_theory():
    # No curvature and no edge: only a border, where neighbours lie on one side (some 1 % at this number of points).
    grid = trimesh.creation.box(extents=(2, 2, 1e-9))
    top = grid.faces[np.asarray(grid.face_normals)[:, 2] > 0.5]
    mesh = floor.spheres(1)[0].mesh
    square = replace(mesh, vertices=np.asarray(grid.vertices), faces=np.asarray(top))
    found = [floor.measure(floor.Pair(f"square {k}", square), 2000) for k in range(10)]
    assert found[0]["area"] == pytest.approx(4)
    expected = 0.5 * np.sqrt(4 / 2000)
    assert np.mean([row["cd_avg"] for row in found]) == pytest.approx(expected, rel=0.03)
    assert all(row["nc"] == pytest.approx(1) for row in found)


def test_a_cheap_row_of_the_committed_table_is_made_again(committed):
    (line,) = committed[(committed["surface"] == "unit sphere") & (committed["points"] == 1000)].to_dict("records")
    (again,) = floor.table({"unit sphere": floor.spheres(line["pairs"])}, [1000]).to_dict("records")
    for name in floor.COLUMNS[1:]:
        assert line[name] == pytest.approx(again[name], rel=1e-5, abs=1e-9), name
    assert line["theory"] == pytest.approx(0.5 * np.sqrt(4 * np.pi / 1000), rel=1e-3)
    error = line["cd_avg_sd"] / np.sqrt(line["pairs"])
    assert abs(line["cd_avg"] - line["theory"]) < 4 * error + 0.01 * line["theory"]


def test_the_committed_table_is_complete_and_near_theory(committed):
    assert list(committed.columns) == list(floor.COLUMNS)
    assert list(committed["surface"].unique()) == ["unit sphere", "real scanned objects"]
    for _, part in committed.groupby("surface"):
        assert tuple(part["points"]) == floor.POINTS and set(part["pairs"]) == {20}
        assert (np.diff(part["cd_avg"]) < 0).all()
    assert (committed["cd_avg"] / committed["theory"]).between(0.9, 1.1).all()


def test_the_page_quotes_the_committed_numbers(committed):
    page = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    quoted = {
        name: re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page, re.DOTALL) for name in ("floor", "turned")
    }
    assert quoted["floor"] == [floor.to_markdown(committed)]
    assert quoted["turned"] == [floor.turned_to_markdown(pd.read_csv(TURNED))]


def test_the_command_writes_and_prints_the_table(tmp_path, capsys):
    place = tmp_path / "meshes"
    place.mkdir()
    for name, extents in (("a", (1, 1, 1)), ("b", (3, 1, 1)), ("c", (1, 2, 1))):
        trimesh.creation.box(extents=extents).export(place / f"{name}.ply")
    (place / "broken.ply").write_text("no mesh")
    options = ["--pairs", "3", "--points", "200", "400", "--label", "boxes", "--out", str(tmp_path / "floor.csv")]
    assert main(["floor", "--meshes", str(place), *options]) == 0
    frame = pd.read_csv(tmp_path / "floor.csv")
    assert list(zip(frame["surface"], frame["points"], strict=True)) == [
        ("unit sphere", 200), ("unit sphere", 400), ("boxes", 200), ("boxes", 400),
    ]  # fmt: skip
    # Boxes of longest side 2: areas 24, 4 * 2 * 2/3 + 2 * 4/9, 4 * 2 + 2 * 1.
    areas = [24, 4 * 2 * 2 / 3 + 2 * 4 / 9, 10]
    assert frame["area"].iloc[2] == pytest.approx(np.mean(areas))
    assert frame["theory"].iloc[2] == pytest.approx(np.mean(0.5 * np.sqrt(np.array(areas) / 200)))
    assert capsys.readouterr().out == floor.to_markdown(frame)


def test_too_few_meshes_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="0 meshes could be read, 2 were asked for"):
        main(["floor", "--meshes", str(tmp_path), "--pairs", "2", "--out", str(tmp_path / "x.csv")])
    with pytest.raises(UserError, match="at least 2"):
        main(["floor", "--pairs", "1", "--out", str(tmp_path / "x.csv")])


def test_which_meshes_are_taken_depends_on_their_names_alone(tmp_path):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        for name in "abcdefgh":
            trimesh.creation.box().export(tmp_path / place / f"{name}.ply")
    chosen = [
        [pair.name for pair in floor.meshes(sorted((tmp_path / place).iterdir(), reverse=place == "two"), 4)]
        for place in ("one", "two")
    ]
    assert chosen[0] == chosen[1] and chosen[0] != ["a", "b", "c", "d"]


def test_every_surface_is_measured_in_the_box_of_the_protocol():
    pair = floor.spheres(1)[0]
    doubled = floor.Pair(pair.name, replace(pair.mesh, vertices=pair.mesh.vertices * 7 + 3))
    assert floor.measure(doubled, 300)["cd_avg"] == pytest.approx(floor.measure(pair, 300)["cd_avg"])
    assert box(normalise(doubled.mesh.vertices, *box(doubled.mesh.vertices)))[1] == pytest.approx(2)


def test_a_turned_mesh_is_normalised_to_another_size_which_only_a_fitted_scale_undoes(tiny, box_parts):
    # Seen from above a plank of 2 x 0.2 fits into its box with side 2; turned by 45 degrees that box has 1.56.
    plank = box_parts(((-1, -0.05, -0.1), (1, 0.05, 0.1)))
    recipe = replace(tiny, normalise="longest_side", points=8000, align=replace(tiny.align, icp_points=2000))
    scaled = replace(recipe, name="scaled", align=replace(recipe.align, icp="similarity"))
    frame = floor.turned([floor.Pair(name, plank) for name in "abc"], [recipe, scaled])
    none, random, _, fitted = (row["cd_avg"] for row in frame.to_dict("records"))
    assert list(frame["turn"]) == ["none", "random", "none", "random"]
    assert random > 1.5 * none and fitted < 1.1 * none
    text = floor.turned_to_markdown(frame)
    assert len(text.splitlines()) == 6 and len({line.count("|") for line in text.splitlines()}) == 1
