"""Figures: equal bytes, objects chosen by rule, empty cells, thin places, means that are those of the rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trimesh

from core.errors import UserError
from core.randomness import numpy_rng
from data.store import Split
from evaluation import backends, protocol
from evaluation.backends import CPU, Choice
from evaluation.metrics import Transform
from evaluation.placement import columns
from methods.meshes import file_name, write_ply
from reports import __main__ as front_door
from reports.comparison import hash_of
from reports.figures import command, figure3, figure4, figure5, style
from reports.figures.gallery import cut, framed, shortened
from reports.figures.material import Material
from reports.figures.normals import look, normal_map, pixel_of
from reports.figures.selection import at_quantiles, in_words
from reports.figures.thickness import Solid, thinnest
from tests.evaluation import standins

V1 = protocol.load("v1")


# ---------------------------------------------------------------- style and choice


def test_a_figure_saved_twice_has_equal_bytes_and_no_date(tmp_path):
    def save(stem: str) -> list[bytes]:
        with style.figure(2.0, 1.5) as made:
            axes = made.add_axes((0.2, 0.2, 0.7, 0.7))
            axes.plot([1, 2], [3, 4], label="a_b $x")
            axes.imshow(np.eye(4))
            axes.legend()
            style.note(made, "one note")
            return [path.read_bytes() for path in style.save(made, tmp_path / stem)]

    first, second = save("first"), save("second")
    assert first == second
    pdf, png = first
    assert b"/CreationDate" not in pdf and b"Matplotlib" not in pdf and b"Software" not in png
    assert b"/FontFile2" in pdf  # TrueType, embedded


def test_the_marks_differ_in_grey_and_without_colour():
    rgb = np.array([[int(mark.colour[k : k + 2], 16) for k in (1, 3, 5)] for mark in style.MARKS])
    grey = np.sort(rgb @ [0.299, 0.587, 0.114])
    assert np.diff(grey).min() > 40
    assert len({mark.line for mark in style.MARKS}) == len({mark.marker for mark in style.MARKS}) == len(style.MARKS)


def test_the_style_does_not_leak():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style.figure(1.0, 1.0):
        pass
    assert dict(matplotlib.rcParams) == before


def test_objects_at_quantiles_of_a_known_list():
    scores = {f"o{i}": float(i) for i in range(11)}
    assert at_quantiles(scores, (0.1, 0.3, 0.5, 0.7, 0.9)) == ["o1", "o3", "o5", "o7", "o9"]
    assert at_quantiles(dict(reversed(scores.items())), (0.0, 0.54, 1.0)) == ["o0", "o5", "o10"]
    assert at_quantiles({"b": 1.0, "a": 1.0}, (0.0, 1.0)) == ["a", "b"]  # ties by name
    assert at_quantiles({"a": 1.0, "b": 2.0}, (0.1, 0.3, 0.5, 0.7, 0.9)) == ["a", "b"]  # none twice
    with pytest.raises(UserError, match="no object was scored"):
        at_quantiles({}, (0.5,))
    assert in_words((0.1, 0.5, 0.9)) == "quantiles 0.1, 0.5 and 0.9"


# ---------------------------------------------------------------- pictures


def box(low, high) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.box(bounds=(low, high))
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def test_a_face_towards_the_camera_is_blue_and_the_camera_does_not_follow_the_mesh():
    picture = normal_map(*box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)), look(0.0), radius=1.5, size=64)
    assert picture[32, 32] == pytest.approx([0.5, 0.5, 1.0], abs=0.01)
    assert (picture[0, 0] == 1).all()
    small = normal_map(*box((-0.25, -0.25, -0.25), (0.25, 0.25, 0.25)), look(0.0), radius=1.5, size=64)
    wide, narrow = ((p < 0.99).any(-1)[32].sum() for p in (picture, small))
    assert 1.7 < wide / narrow < 2.5  # as large as it is, and a bit more for being nearer


def test_a_point_falls_on_the_pixel_where_it_is_seen():
    place, view = np.array([0.3, 0.4, -0.2]), look(25.0, 70.0)
    tiny = box(place - 0.02, place + 0.02)
    picture = normal_map(*tiny, view, radius=1.5, size=200, supersample=1)
    rows, found = np.nonzero((picture < 0.99).any(-1))
    assert pixel_of(place, view, radius=1.5, size=200) == pytest.approx([found.mean() + 0.5, rows.mean() + 0.5], abs=1)


def test_a_frame_holds_what_is_drawn_in_any_picture():
    first, second = np.ones((100, 100, 3)), np.ones((100, 100, 3))
    first[40:60, 30:50], second[50, 70] = 0, 0
    part = framed([first, second], margin=0.0)
    assert part == pytest.approx((0.30, 0.295, 0.41), abs=0.011)
    assert (cut(first, part) == 0).sum() == 20 * 20 * 3
    assert framed([np.ones((8, 8, 3))]) == (0.0, 0.0, 1.0)


# ---------------------------------------------------------------- thin places


def plate_on_a_block() -> tuple[np.ndarray, np.ndarray]:
    """A block of 1 x 0.5 x 1 and, on it, a plate 0.04 thick; the block's edge is sharp, the plate is what is thin."""
    block, plate = ((-0.5, -0.5, -0.5), (0.5, 0.0, 0.5)), ((-0.02, 0.1, -0.4), (0.02, 0.9, 0.4))
    return trimesh_of([box(*block), box(*plate)])


def trimesh_of(parts) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    faces = [faces + start for (_, faces), start in zip(parts, starts[:-1], strict=True)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)


def test_the_thinnest_place_is_on_the_thin_plate_and_seen_by_its_view():
    vertices, faces = plate_on_a_block()
    place = thinnest(vertices, faces, rng=numpy_rng("plate"))
    assert place.thickness == pytest.approx(0.04, abs=1e-3)
    assert place.point[1] >= 0.1 and abs(place.normal[0]) == pytest.approx(1, abs=1e-6)
    _, y, z = place.point
    assert min(y - 0.1, 0.9 - y, z + 0.4, 0.4 - z) < 2 * 0.04 + 0.001  # near the plate's rim, where it looks thin
    picture = normal_map(vertices, faces, place.view, radius=1.2, size=128)
    column, row = pixel_of(place.point, place.view, radius=1.2, size=128).astype(int)
    assert (picture[row, column] < 0.99).any()


def test_walls_that_are_not_parallel_have_no_thickness():
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    hull = trimesh.convex.convex_hull(corners)  # a tetrahedron: its faces meet at 70.5 degrees
    assert thinnest(np.asarray(hull.vertices), np.asarray(hull.faces), rng=numpy_rng("sharp")) is None
    cube = Solid(*box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)))
    assert cube.thickness(np.array([[0.5, 0.1, 0.1]]), np.array([[1.0, 0, 0]])) == pytest.approx([1.0], abs=1e-4)


# ---------------------------------------------------------------- figures


def study_rows(kinds=("pyramid", "single", "triple"), seeds=(0,)) -> pd.DataFrame:
    """Random numbers for each variant of the study: 6 objects, the last with an open ground truth."""
    rng, lines = np.random.default_rng(1), []
    for kind in kinds:
        for count in figure4.COUNTS:
            for seed in seeds:
                for i in range(6):
                    line = {"dataset": "procedural", "scale": "smoke", "object": f"o{i}", "view": 0, "seed": seed}
                    line |= {"method": "vae_study", "variant": f"{kind}_{count}", "protocol": "v1", "status": "ok"}
                    line |= {"cd_avg": rng.random(), "viou_128": np.nan if i == 5 else rng.random(), "reason": ""}
                    line |= {"fscore_0.1": rng.random(), "nc": rng.random()}
                    lines.append(line)
    return pd.DataFrame(lines)


def test_figure4_shows_the_means_of_the_rows_at_the_tokens_of_the_scale():
    rows = study_rows()
    table = figure4.points(rows, V1, figure4.counts_at("smoke"))
    assert len(table) == 3 * 5 * 2
    assert dict(zip(table["count"], table["tokens"], strict=True)) == {
        "quarter_lr": 1, "lr": 4, "half_hr": 8, "hr": 16, "twice_hr": 32,
    }  # fmt: skip
    for line in table.itertuples():
        mine = rows[rows["variant"] == f"{line.kind}_{line[2]}"]
        assert line.mean == pytest.approx(mine[line.metric].mean())
        assert line.low < line.mean < line.high
        assert line.n_objects == (5 if line.metric == "viou_128" else 6)


def test_figure4_compares_each_kind_with_the_pyramid_object_by_object(tmp_path):
    rows = study_rows()
    better = rows["variant"].str.startswith("single")
    pyramid = rows[rows["variant"].str.startswith("pyramid")]
    for metric, by in (("cd_avg", -0.1), ("viou_128", 0.1)):
        rows.loc[better, metric] = pyramid[metric].to_numpy() + by + 0.01 * (-1) ** np.arange(better.sum())
    folder = tmp_path / "generated/vae_study/single_lr/seed0"
    for place, manifest in (
        (folder, {"seed": 0, "stages": {"vae": "v"}}),
        (tmp_path / "stages/v/seed0", {"parameters": 7e6}),
    ):
        place.mkdir(parents=True)
        (place / "manifest.json").write_text(json.dumps(manifest))
    table = figure4.points(rows, V1, figure4.counts_at("smoke"), tmp_path).set_index(["variant", "metric"])
    assert table.loc["pyramid_lr", "difference"].isna().all()
    for metric, by in (("cd_avg", -0.1), ("viou_128", 0.1)):
        line = table.loc[("single_lr", metric)]
        assert line["difference"] == pytest.approx(by, abs=0.02) and line["p"] < 0.1
        assert line["difference_low"] < by < line["difference_high"]
    assert (
        list(table.loc["single_lr", "parameters"]) == [7e6, 7e6] and table.loc["triple_lr", "parameters"].isna().all()
    )
    others = rows[~(better & (rows["object"] == "o0"))]
    with pytest.raises(UserError, match="different objects"):
        figure4.points(others, V1, figure4.counts_at("smoke"))


def test_figure4_says_how_its_protocol_places_the_meshes_and_of_which_rows_it_is():
    vecset = protocol.load("vecset")
    study = study_rows().assign(protocol="vecset").rename(columns={"cd_avg": "cd_sum", "fscore_0.1": "fscore_0.02"})
    table = figure4.points(study, vecset, figure4.counts_at("smoke"))
    assert set(table["metric"]) == {"cd_sum", "viou_128"} and set(table["protocol"]) == {"vecset"}
    text = figure4.caption(table, vecset, "procedural", "smoke")
    assert "protocol vecset (one box for both meshes, not aligned)." in text
    assert figure4.placing(V1) == "a box for each mesh, aligned"
    line = table.iloc[0]
    assert line["rows_hash"] == hash_of(study[study["variant"] == line["variant"]], vecset)


def test_counts_of_figure4_that_come_to_the_same_number_share_a_tick():
    tokens = {"quarter_lr": 4, "lr": 16, "half_hr": 16, "hr": 32, "twice_hr": 64}
    table = figure4.points(study_rows(), V1, tokens)
    assert figure4.tick_labels(table) == {4: "LR/4", 16: "LR = HR/2", 32: "HR", 64: "2×HR"}
    assert figure4.tick_labels(table[table["count"] != "lr"])[16] == "HR/2"
    said = "At 16 tokens two banks of the same size are drawn"
    assert figure4.caption(table, V1, "procedural", "cpu").count(said) == 1
    one_each = table[(table["count"] == "lr") == (table["kind"] == "pyramid")]  # no kind has both of them
    for other in (one_each, figure4.points(study_rows(), V1, figure4.counts_at("smoke"))):
        assert "banks of the same size" not in figure4.caption(other, V1, "procedural", "cpu")


def test_figure4_draws_what_is_there_and_says_what_is_not():
    table = figure4.points(study_rows(kinds=("single",)), V1, figure4.counts_at("smoke"))
    with style.figure(style.TEXT, figure4.HEIGHT) as made:
        figure4.draw(made, table, V1, dataset="procedural", scale="smoke")
        panel = made.axes[0]
        assert [text.get_text() for text in made.legends[0].get_texts()] == ["single level"]
        assert "CD-avg" in panel.get_ylabel() and "IoU" in made.axes[1].get_ylabel()
        line = panel.get_lines()[0]
        assert line.get_ydata() == pytest.approx(table.loc[table["metric"] == "cd_avg", "mean"])
        assert "n = 6 objects" in panel.get_title(loc="left") and "n = 5" in made.axes[1].get_title(loc="left")
    with pytest.raises(UserError, match="no variant of vae_study"):
        figure4.points(study_rows().assign(method="other"), V1, figure4.counts_at("smoke"))
    with pytest.raises(UserError, match="protocol triposr does not measure"):
        figure4.points(study_rows(), protocol.load("triposr"), figure4.counts_at("smoke"))


@pytest.fixture
def root(ellipsoids, tmp_path) -> Path:
    """The folder of a dataset and scale: rows, and meshes of mar3d/full, the truth turned by 90 degrees."""
    split, lines = Split(ellipsoids, "test"), []
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    for i, name in enumerate(split.objects):
        vertices, faces = split.sample(i, 0).mesh()
        folder = tmp_path / "generated/mar3d/full/seed0/meshes"
        folder.mkdir(parents=True, exist_ok=True)
        write_ply(folder / file_name(name, 0), vertices @ turn, faces)
        line = {"dataset": "ellipsoids", "scale": "smoke", "object": name, "view": 0, "method": "mar3d", "seed": 0}
        line |= {"variant": "full", "protocol": "v1", "status": "ok", "reason": "", "category": "", "align_scale": 1.0}
        numbers = {"fscore_0.1": i / 10, "cd_avg": 0.05, "nc": 0.9}
        lines.append(line | numbers | columns(Transform(turn, np.zeros(3), 1.0)))
    lost = {**lines[0], "variant": "no_mar_hr", "status": "failed", "reason": "no surface", "cd_avg": 3.4, "nc": 0.0}
    pd.DataFrame([*lines, *({**lost, "object": name} for name in split.objects)]).to_parquet(tmp_path / "rows.parquet")
    return tmp_path


def test_pictures_are_of_aligned_meshes_and_what_is_not_there_says_so(root, ellipsoids):
    material = Material(pd.read_parquet(root / "rows.parquet"), V1, ellipsoids, root / "generated")
    names = ["mar3d/full", "mar3d/no_mar_hr", "mar3d/no_pyramid"]
    made, note = figure3.gallery(material, names, names, quantiles=(0.5,))
    assert made.labels == [material.split.objects[2]]  # of four; the third has the score 0.2: floor(1.5 + 1/2)
    ((condition, full, failed, missing, truth),) = made.rows
    assert full.text == "F 0.20\nCD 0.050"
    assert np.abs(full.picture - truth.picture).mean() < 0.01  # turned back onto the truth
    assert (failed.picture, failed.absent) == (None, "failed")
    assert (missing.picture, missing.absent) == (None, "not run")
    assert "quantile 0.5 of F@0.1 of “MAR-3D: Full model”" in note and "n = 4" in note
    assert condition.picture.shape[2] == 3


def test_figure5_has_its_eight_columns_whatever_was_run(root, ellipsoids):
    material = Material(pd.read_parquet(root / "rows.parquet"), V1, ellipsoids, root / "generated")
    columns = figure5.columns()
    assert len(columns) == 8
    made, note = figure5.gallery(material, list(columns), list(columns.values()), quantiles=(0.0, 1.0))
    assert made.titles[1].startswith("(a) DiT") and made.titles[8].startswith("(h) MAR")
    assert [len(row) for row in made.rows] == [10, 10]
    assert [cell.absent for cell in made.rows[0][1:9]] == ["not run"] * 4 + ["failed", "not run", "not run", ""]
    assert made.below[1] == "not run" and made.below[5] == "failed"
    assert made.below[8].startswith("F 0.150\n[0.") and made.below[8].endswith("n = 4")
    assert "“(h)”" in note


def test_a_column_of_figure5_has_a_setting_and_a_title(tmp_path):
    assert [title for title in figure5.columns().values() if "HR directly" in title] == [
        "DiT, HR directly", "MAR, HR directly",
    ]  # fmt: skip
    (tmp_path / "bad.yaml").write_text("columns:\n  - {setting: dit/full, title: DiT, directly}\n")
    with pytest.raises(UserError, match=r"bad.yaml: a column has the keys setting, title, directly"):
        figure5.columns(tmp_path / "bad.yaml")


def test_the_command_draws_a_figure(root, ellipsoids, tmp_path):
    arguments = ["figure3", "--rows", root / "rows.parquet", "--settings", "mar3d/full", "--root", root]
    arguments += ["--prepared", ellipsoids, "--out", tmp_path / "out/figure3.pdf"]
    paths = command.run(front_door.parser().parse_args(list(map(str, arguments))))
    assert [path.name for path in paths] == ["figure3.pdf", "figure3.png", "figure3.csv"]
    table = pd.read_csv(paths[2]).groupby("object")["variant"].agg(list)
    assert set(table.index) <= set(Split(ellipsoids, "test").objects)
    assert all(variants == ["full", "no_mar_hr"] for variants in table)
    assert all(path.stat().st_size > 5000 for path in paths[:2])


def test_a_note_says_who_drew_where_it_was_not_the_cpu(root, ellipsoids, tmp_path, monkeypatch):
    standins.install(monkeypatch, "pytorch3d")
    monkeypatch.setattr(figure3, "PIXELS", 32)
    notes = []
    monkeypatch.setattr(style, "note", lambda made, text: notes.append(text))
    for backend in ("cpu", "pytorch3d"):
        arguments = ["figure3", "--rows", root / "rows.parquet", "--settings", "mar3d/full", "--root", root]
        arguments += ["--prepared", ellipsoids, "--out", tmp_path / "figure3.pdf", "--backend", backend]
        command.run(front_door.parser().parse_args(list(map(str, arguments))))
    assert notes[1] == f"{notes[0]} Normal maps by {Choice('pytorch3d', 'cpu').rasteriser()}."
    assert backends._used == CPU


def test_a_mesh_that_is_not_there_is_an_error_with_the_remedy(root, ellipsoids):
    next((root / "generated/mar3d/full/seed0/meshes").iterdir()).unlink()
    material = Material(pd.read_parquet(root / "rows.parquet"), V1, ellipsoids, root / "generated")
    with pytest.raises(UserError, match="is not there, but its row is; generate again"):
        figure3.gallery(material, ["mar3d/full"], ["full"], quantiles=np.linspace(0, 1, 4))
    with pytest.raises(UserError, match="nothing to draw"):
        figure3.gallery(material, ["mar3d/no_pyramid"], ["x"])


def test_a_long_name_loses_its_middle():
    assert shortened("Room_Essentials_Mug_White_Yellow", 11) == "Room_…ellow"
    assert [len(shortened("x" * n, 10)) for n in (9, 10, 11, 40)] == [9, 10, 10, 10]
