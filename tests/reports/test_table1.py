import numpy as np
import pandas as pd
import pytest

from core.errors import UserError
from evaluation import protocol
from reports import comparison, published, rows, table1
from reports.settings import Setting, setting
from tests.reports.conftest import make_rows

V1 = protocol.load("v1")
PRINTED = published.read()
MAR = setting("mar3d/full")
TRIPOSR = Setting("triposr", "full", "TripoSR")
FLOOR = Setting("ground_truth", "full", "Ground truth", control="control, sees the truth")
VALUES = np.linspace(0.2, 0.9, 8)


@pytest.fixture
def build(write):
    """The table of some frames, by source, dataset and setting."""

    def built(*frames, settings=(MAR, TRIPOSR, FLOOR)):
        frame = table1.table(rows.read(write(*frames)), settings, V1, PRINTED)
        return frame, frame.set_index(["source", "dataset", "setting"]).sort_index()

    return built


def gso(frame):
    return frame.assign(dataset="gso", scale="cpu")


def test_each_dataset_has_its_own_numbers(build):
    frame, by = build(make_rows("mar3d", fscore=VALUES), gso(make_rows("mar3d", fscore=VALUES[:4] / 2)))
    near, far = by.loc[("measured", "procedural", MAR.label)], by.loc[("measured", "gso", MAR.label)]
    assert near["fscore"] == pytest.approx(VALUES.mean()) and far["fscore"] == pytest.approx(VALUES[:4].mean() / 2)
    assert (near["n_objects"], far["n_objects"]) == (8, 4)
    assert (near["scale"], far["scale"]) == ("smoke", "cpu")
    assert near["fscore_low"] < near["fscore"] < near["fscore_high"]
    assert len(frame) == 2 * 3 + 5 * 2


def test_the_papers_rows_stand_apart_and_are_marked(build):
    frame, by = build(gso(make_rows("mar3d", fscore=VALUES)))
    line = by.loc[("published", "gso", "TripoSR")]
    assert (line["fscore"], line["nc"], line["n_objects"]) == (0.834, 0.727, 100)
    assert line["cd"] == pytest.approx(0.0644)  # printed in tenths
    assert np.isnan(line["fscore_low"]) and pd.isna(line["rows_hash"])
    assert ",8,1,0,ok," in comparison.to_csv(frame).splitlines()[1]  # counts are whole numbers
    assert by.loc[("measured", "gso", MAR.label), "published"] == "mar3d"
    assert by.loc[("measured", "gso", "TripoSR"), "published"] == "triposr"
    assert by.loc[("measured", "gso", "Ground truth"), "published"] == ""
    assert set(frame.loc[frame["source"] == "published", "published"]) == set(PRINTED["table1"])


def test_a_variant_may_name_its_row_and_an_ablation_has_none():
    assert table1.row_of(Setting("mine", "fine", "Mine", published="lgm"), PRINTED) == "lgm"
    assert table1.row_of(setting("mar3d/no_mar_hr"), PRINTED) == ""


def test_missing_meshes_are_counted_as_failures(build):
    theirs = make_rows("triposr", fscore=VALUES, failed=[1, 5]).replace("ValueError: no surface", "missing")
    frame, by = build(make_rows("mar3d", fscore=VALUES), theirs)
    line = by.loc[("measured", "procedural", "TripoSR")]
    assert (line["n_failed"], line["status"]) == (2, "ok, 2 failed: missing")
    assert line["fscore"] == pytest.approx(np.delete(VALUES, [1, 5]).sum() / 8)
    assert "| 8 (2 failed) |" in table1.page(frame, V1, PRINTED)


def test_a_setting_without_rows_or_success_on_a_dataset_shows_it(build):
    broken = gso(make_rows("triposr", fscore=VALUES, failed=range(8)))
    frame, by = build(make_rows("mar3d", fscore=VALUES), broken)
    assert by.loc[("measured", "gso", MAR.label), "status"] == "not run"
    assert by.loc[("measured", "gso", "TripoSR"), "status"] == "failed: ValueError: no surface"
    assert np.isnan(by.loc[("measured", "gso", "TripoSR"), "fscore"])
    assert "failed: ValueError: no surface" in table1.page(frame, V1, PRINTED)


def test_one_dataset_at_two_scales_is_no_table(build):
    with pytest.raises(UserError, match="one scale"):
        build(make_rows("mar3d", fscore=VALUES), make_rows("triposr", fscore=VALUES).assign(scale="cpu"))
    with pytest.raises(UserError, match="asks for v1"):
        build(make_rows("mar3d", fscore=VALUES).assign(protocol="triposr"))


def test_under_another_threshold_the_papers_f_is_left_out():
    lines = pd.DataFrame(table1._published_lines(protocol.load("instantmesh"), PRINTED))
    assert "fscore" not in lines and "cd" not in lines and (lines["nc"] > 0).all()


def test_the_page_has_a_line_for_each_setting_and_four_columns_for_each_dataset(build):
    frame, _ = build(make_rows("mar3d", fscore=VALUES), gso(make_rows("mar3d", fscore=VALUES)))
    text = table1.page(frame, V1, PRINTED)
    assert "dataset procedural, scale smoke, protocol v1" in text.splitlines()[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3 + 5
    assert {line.count("|") for line in lines} == {1 + 1 + 4 * 3}  # procedural, gso, omniobject3d
    names = [line.split("|")[1].strip() for line in lines[2:]]
    assert names[:3] == [MAR.label, "TripoSR", "*Ground truth* (control, sees the truth)"]
    assert names[3:] == [f"{name} (published)" for name in ("LGM", "CraftsMan", "TripoSR", "InstantMesh", "MAR-3D")]
    assert "0.9310" in lines[-1] and lines[-1].split("|")[6:10] == ["  "] * 4  # nothing is published on procedural


def test_recorded_rows_give_the_same_table(write, tmp_path):
    frame = make_rows("mar3d", fscore=np.round(VALUES, 3), categories=("NA", "007")).assign(
        object=lambda f: f["object"]
    )
    frame["object"] = ["007", "NA", "1e5", *frame["object"][3:]]
    frame.to_csv(tmp_path / "rows.csv", index=False, float_format="%.6g")
    made = [table1.table(rows.read(paths), [MAR], V1, PRINTED) for paths in (write(frame), [tmp_path / "rows.csv"])]
    assert comparison.to_csv(made[0]) == comparison.to_csv(made[1])
    assert "007" in set(rows.read([tmp_path / "rows.csv"])["object"])
