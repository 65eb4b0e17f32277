import json

import numpy as np
import pytest

from core.errors import UserError
from evaluation import protocol
from methods import registry
from reports import comparison, rows, table_s1
from tests.reports.conftest import make_rows

V1 = protocol.load("v1")
VALUES = np.linspace(0.2, 0.9, 8)
SPEC = table_s1.read()


@pytest.fixture
def build(write):
    def table(*frames, configured=(), root=None):
        frame = table_s1.table(rows.read(write(*frames)), SPEC, configured, V1, root)
        return frame.set_index(["matching", "column"])

    return table


def test_the_columns_are_those_of_the_figure_under_every_matching():
    assert [column["column"] for column in SPEC["columns"]] == [*"abcdefgh", "flow"]
    assert set(SPEC["matchings"]) == {"equal_parameters", "equal_flops", "equal_time"}
    for matching in SPEC["matchings"]:
        chosen = table_s1.settings(SPEC, matching)
        assert {chosen[column].method for column in "efgh"} == {"mar3d"}
        assert {chosen[column].method for column in [*"abcd", "flow"]} == {"dit"}
        assert len({setting.name for setting in chosen.values()}) == 9


@pytest.mark.parametrize("method", ["mar3d", "dit"])
def test_every_setting_of_a_method_that_is_there_is_one_of_its_variants(method):
    methods = registry.load_methods()
    if "dit" not in methods:
        pytest.skip("there is no methods/dit: its columns, and MAR's that came with it, are not run")
    names = {s.variant for m in SPEC["matchings"] for s in table_s1.settings(SPEC, m).values() if s.method == method}
    assert not names - set(methods[method].variants)


def test_dit_is_compared_with_mar_of_the_same_design(build):
    frame = build(
        make_rows("mar3d", fscore=VALUES),
        make_rows("mar3d", "no_mar_hr", fscore=VALUES - 0.1),
        make_rows("dit", "dit_lr", fscore=VALUES - 0.3),
        make_rows("dit", "dit_lr_equal_flops", fscore=VALUES - 0.2),
        make_rows("dit", "cascade", fscore=VALUES - 0.05),
    )
    expected = {("equal_parameters", "a"): -0.2, ("equal_flops", "a"): -0.1, ("equal_parameters", "d"): -0.05}
    for place, difference in expected.items():
        assert frame.loc[place, "fscore_difference"] == pytest.approx(difference)
        assert frame.loc[place, "status"] == "ok"
    mar = frame.xs("e", level="column")
    assert len(mar) == 3 and mar["fscore"].nunique() == 1 and mar["fscore_difference"].isna().all()


def test_what_has_no_rows_is_not_run_and_what_failed_says_why(build):
    broken = make_rows("dit", "flow", fscore=VALUES, failed=range(8))
    frame = build(make_rows("mar3d", fscore=VALUES), broken)
    assert frame.loc[("equal_parameters", "a"), "status"] == "not run"
    assert frame.loc[("equal_parameters", "flow"), "status"] == "failed: ValueError: no surface"
    assert np.isnan(frame.loc[("equal_parameters", "flow"), "fscore"])
    assert frame.loc[("equal_time", "flow"), "status"] == "not run"


def test_other_objects_are_not_compared(build):
    with pytest.raises(UserError, match="different objects"):
        build(make_rows("mar3d", fscore=VALUES), make_rows("dit", "cascade", fscore=VALUES[:5]))


def test_a_configured_setting_that_has_no_column_is_refused(build):
    with pytest.raises(UserError, match=r"table_s1\.yaml: there is no setting 'mar3d/no_pyramid'"):
        build(make_rows("mar3d", fscore=VALUES), configured=["mar3d/no_pyramid"])


def test_costs_are_those_of_the_generators_stages(build, tmp_path):
    def write(folder, **value):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "manifest.json").write_text(json.dumps(value))

    stages = {"vae": "v", "mar_lr": "l", "mar_hr": "h"}
    write("generated/mar3d/full/seed0", seed=0, stages=stages, flops={"sample": 3e9, "decode": 8e9})
    for name, parameters, flops, optimiser in (("v", 7, 1e9, 0), ("l", 10, 2e15, 5e11), ("h", 20, 3e15, 1e12)):
        steps = {"step_flops": 1e12, "optimiser_step_flops": optimiser}
        write(f"stages/{name}/seed0", parameters=parameters, training_flops=flops, **steps)
    frame = build(make_rows("mar3d", fscore=VALUES).assign(seconds_sample=2.0), root=tmp_path)
    line = frame.loc[("equal_parameters", "h")]
    assert (line["parameters"], line["training_flops"]) == (30, 5e15)
    assert line["all_training_flops"] == 2e15 * 1.5 + 3e15 * 2
    assert line["sampling_flops"] == 3e9
    assert (line["seconds"], line["seconds_low"]) == (2.0, 2.0)
    assert np.isnan(frame.loc[("equal_parameters", "a"), "parameters"])


def test_the_page_has_a_part_for_each_matching(build):
    frame = build(make_rows("mar3d", fscore=VALUES), make_rows("dit", "cascade", fscore=VALUES)).reset_index()
    text = table_s1.page(frame, V1)
    assert "dataset procedural, scale smoke, protocol v1" in text.splitlines()[0]
    assert text.count("Matched by equal") == 3
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 3 * (2 + 9) and len({line.count("|") for line in lines}) == 1
    assert comparison.to_csv(frame).count("\n") == 1 + 27
