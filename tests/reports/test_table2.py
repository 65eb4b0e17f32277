import numpy as np
import pytest

from core.errors import UserError
from evaluation import protocol
from evaluation.rows import write as write_rows
from reports import markdown, published, rows, table2
from reports.__main__ import parser
from reports.table2 import Setting
from tests.reports.conftest import make_rows

V1 = protocol.load("v1")
PRINTED = published.read()
FULL = Setting("mar3d", "full", "MAR-3D: full", published="full")
LESS = Setting("mar3d", "no_mar_hr", "MAR-3D: w/o MAR-HR", published="no_mar_hr")
FLOOR = Setting("ground_truth", "full", "Ground truth", control="control, sees the truth")
VALUES = np.linspace(0.2, 0.9, 8)


@pytest.fixture
def build(write):
    return lambda frames, settings: table2.table(rows.read(write(*frames)), settings, V1, PRINTED).set_index("variant")


def test_a_constant_shift_has_a_difference_without_spread(build):
    # Paired: the objects differ by 0.7, the variants by 0.1 on every object.
    frame = build(
        [make_rows("mar3d", fscore=VALUES), make_rows("mar3d", "no_mar_hr", fscore=VALUES - 0.1)], [FULL, LESS]
    )
    line = frame.loc["no_mar_hr"]
    got = [line["fscore_difference"], line["fscore_difference_low"], line["fscore_difference_high"]]
    assert got == pytest.approx([-0.1, -0.1, -0.1])
    assert line["fscore"] == pytest.approx(VALUES.mean() - 0.1)
    assert line["fscore_low"] < line["fscore"] - 0.05  # unpaired, the interval is wide


def test_the_first_setting_has_no_difference_and_the_paper_stands_beside_it(build):
    line = build([make_rows("mar3d", fscore=VALUES)], [FULL]).loc["full"]
    assert np.isnan(line["cd_difference"])
    assert line["fscore_published"] == 0.944
    assert line["cd_published"] == pytest.approx(0.0351)  # printed in tenths, v1 counts in units
    assert line["n_objects"] == 8
    assert line["status"] == "ok"


def test_failed_objects_count_and_are_counted(build):
    line = build([make_rows("mar3d", fscore=[1.0, 1.0, 1.0, 1.0], failed=[2])], [FULL]).loc["full"]
    assert line["fscore"] == pytest.approx(0.75)
    assert line["n_failed"] == 1
    assert line["status"] == "ok, 1 failed: ValueError: no surface"


def test_a_method_that_failed_is_a_row_without_numbers_and_the_others_stand(build):
    broken = make_rows("mar3d", "no_mar_hr", fscore=VALUES, failed=range(8))
    frame = build([make_rows("mar3d", fscore=VALUES), broken], [FULL, LESS])
    assert frame.loc["no_mar_hr", "status"] == "failed: ValueError: no surface"
    assert np.isnan(frame.loc["no_mar_hr", "fscore"])
    assert frame.loc["no_mar_hr", "fscore_published"] == 0.921
    assert frame.loc["full", "fscore"] == pytest.approx(VALUES.mean())


def test_if_the_base_failed_there_are_numbers_but_no_differences(build):
    broken = make_rows("mar3d", fscore=VALUES, failed=range(8))
    frame = build([broken, make_rows("mar3d", "no_mar_hr", fscore=VALUES)], [FULL, LESS])
    assert frame.loc["no_mar_hr", "fscore"] == pytest.approx(VALUES.mean())
    assert np.isnan(frame.loc["no_mar_hr", "fscore_difference"])


def test_a_setting_without_rows_is_missing_not_absent(build):
    frame = build([make_rows("mar3d", fscore=VALUES)], [FULL, LESS])
    assert frame.loc["no_mar_hr", "status"].startswith("missing")


def test_the_median_is_over_objects_of_the_mean_over_seeds(build):
    first, second = [0.1, 0.2, 0.9, 0.5, 0.4], [0.3, 0.8, 0.1, 0.5, 0.6]  # means 0.2, 0.5, 0.5, 0.5, 0.5
    frame = build([make_rows("mar3d", fscore=values, seed=s) for s, values in enumerate((first, second))], [FULL])
    line = frame.loc["full"]
    assert (line["fscore_median"], line["fscore"]) == (pytest.approx(0.5), pytest.approx(0.44))
    frame = build([make_rows("mar3d", fscore=np.ones(5), failed=[0, 1])], [FULL])
    assert (frame.loc["full", "cd_median"], frame.loc["full", "fscore_median"]) == (pytest.approx(0.1), 1.0)
    lost = build([make_rows("mar3d", fscore=np.ones(5), failed=range(5))], [FULL]).loc["full"]
    assert np.isnan(lost["fscore_median"])


def test_the_interval_of_a_difference_to_a_control_with_one_seed_holds_the_seeds(build):
    seeds = [make_rows("mar3d", fscore=VALUES + shift, seed=s) for s, shift in enumerate((-0.1, 0.1))]
    truth = make_rows("ground_truth", fscore=VALUES + np.linspace(0.49, 0.51, len(VALUES)))
    line = build([*seeds, truth], [FULL, FLOOR]).iloc[1]
    assert line["fscore_difference"] == pytest.approx(0.5)
    # Objects hardly differ: the interval is of the two seeds, 0.1 each way, which ask for Student's t of 12.7.
    assert line["fscore_difference_high"] - line["fscore_difference_low"] > 2 * 0.1 * 12.7


def test_of_other_seeds_only_the_common_ones_are_paired(build):
    full = [make_rows("mar3d", fscore=VALUES + shift, seed=s) for s, shift in ((0, 0.0), (1, 0.1))]
    less = [make_rows("mar3d", "no_mar_hr", fscore=VALUES + shift, seed=s) for s, shift in ((1, 0.3), (2, 0.9))]
    line = build([*full, *less], [FULL, LESS]).iloc[1]
    assert line["fscore_difference"] == pytest.approx(0.2)
    apart = [make_rows("mar3d", "no_mar_hr", fscore=VALUES, seed=s) for s in (2, 3)]
    with pytest.raises(UserError, match="no seed in common"):
        build([*full, *apart], [FULL, LESS])


def test_one_seed_of_a_trained_setting_stands_beside_that_seed_alone(build):
    full = [make_rows("mar3d", fscore=VALUES + shift, seed=s) for s, shift in ((0, 0.0), (1, 0.1))]
    line = build([*full, make_rows("mar3d", "no_mar_hr", fscore=VALUES + 0.3)], [FULL, LESS]).iloc[1]
    assert line["fscore_difference"] == pytest.approx(0.3)


def test_other_views_are_not_compared(build):
    turned = make_rows("mar3d", "no_mar_hr", fscore=VALUES).assign(view=1)
    with pytest.raises(UserError, match="different objects or views"):
        build([make_rows("mar3d", fscore=VALUES), turned], [FULL, LESS])


def test_a_control_with_one_seed_is_paired_with_the_mean_over_seeds(build):
    seeds = [make_rows("mar3d", fscore=VALUES + shift, seed=s) for s, shift in enumerate((-0.1, 0.1))]
    frame = build([*seeds, make_rows("ground_truth", fscore=np.ones(8))], [FULL, FLOOR])
    assert list(frame["n_seeds"]) == [2, 1]
    assert frame["fscore_difference"].iloc[1] == pytest.approx(1 - VALUES.mean())


def test_different_objects_are_not_compared(build):
    with pytest.raises(UserError, match="different objects"):
        build([make_rows("mar3d", fscore=VALUES), make_rows("mar3d", "no_mar_hr", fscore=VALUES[:5])], [FULL, LESS])


def test_rows_of_two_scales_or_another_protocol_make_no_table(build):
    other = make_rows("mar3d", "no_mar_hr", fscore=VALUES).assign(scale="cpu")
    with pytest.raises(UserError, match="one scale"):
        build([make_rows("mar3d", fscore=VALUES), other], [FULL, LESS])
    with pytest.raises(UserError, match="asks for v1"):
        build([make_rows("mar3d", fscore=VALUES).assign(protocol="triposr")], [FULL])


def test_the_bytes_depend_on_the_rows_alone(build, write):
    # make_rows draws new timings each time, and the files come in another order.
    def text(order):
        frames = [make_rows("mar3d", fscore=VALUES), make_rows("mar3d", "no_mar_hr", fscore=VALUES**2)]
        all_rows = rows.read(write(*[frames[i] for i in order]))
        return table2.to_csv(table2.table(all_rows, [FULL, LESS], V1, PRINTED))

    assert text([0, 1]) == text([1, 0])
    changed = rows.read(
        write(make_rows("mar3d", fscore=VALUES + 1e-6), make_rows("mar3d", "no_mar_hr", fscore=VALUES**2))
    )
    assert table2.to_csv(table2.table(changed, [FULL, LESS], V1, PRINTED)) != text(
        [0, 1]
    )  # by rows_hash if nothing else


def test_categories_mark_the_held_out_one(write):
    all_rows = rows.read(write(make_rows("mar3d", fscore=[0.2, 0.8, 0.4, 0.6])))
    frame = table2.by_category(all_rows, [FULL], V1, "table").set_index("category")
    assert frame["fscore"].to_dict() == pytest.approx({"chair": 0.3, "table": 0.7})
    assert frame["held_out"].to_dict() == {"chair": 0, "table": 1}


def test_every_row_of_the_papers_table_is_a_variant_and_the_other_way_round():
    from methods import registry

    variants = registry.get_method("mar3d").variants.values()
    assert {v.published for v in variants if v.published} == set(PRINTED["table2"])


def test_markdown_says_what_it_is_of_and_keeps_its_columns(build, write):
    frames = [make_rows("mar3d", fscore=VALUES), make_rows("mar3d", "no_mar_hr", fscore=VALUES, failed=range(8))]
    frames[1]["reason"] = "ValueError: a | b\nc"
    all_rows = rows.read(write(*frames))
    text = markdown.render(table2.table(all_rows, [FULL, LESS, FLOOR], V1, PRINTED), V1, PRINTED)
    assert "dataset procedural, scale smoke, protocol v1" in text.splitlines()[0]
    lines = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1
    assert "*Ground truth* (control, sees the truth)" in lines[4]


def test_the_page_names_a_backend_that_is_not_the_cpu_and_nothing_else_changes(tmp_path):
    frames = {name: make_rows("mar3d", name, fscore=VALUES) for name in ("full", "no_mar_hr")}
    backend = "pytorch3d 0.7.9 on cuda, sampler cpu"

    def page(out, **backends):
        for name, frame in frames.items():
            write_rows(frame, tmp_path / f"{name}.parquet", backend=backends.get(name, ""))
        line = [
            "table2",
            "--rows",
            *(str(tmp_path / f"{name}.parquet") for name in frames),
            "--out",
            str(tmp_path / out),
        ]
        arguments = parser().parse_args([*line, "--settings", *(f"mar3d/{name}" for name in frames)])
        arguments.make(arguments)
        assert (tmp_path / out).read_text() == (tmp_path / "plain.csv").read_text()
        return (tmp_path / out).with_suffix(".md").read_text()

    plain, said = page("plain.csv"), page("other.csv", full=backend)
    assert said == f"{plain}\nScored by {backend} in 1 of 2 files of rows.\n"
