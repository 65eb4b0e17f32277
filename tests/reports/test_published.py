import pytest

from core.errors import UserError
from evaluation import protocol
from reports import published

PRINTED = published.read()


def test_units_follow_the_protocol():
    assert published.values(PRINTED, "table2", "full", protocol.load("v1"))["cd"] == pytest.approx(0.0351)
    compat = published.values(PRINTED, "table2", "full", protocol.load("mar3d_compat"))
    assert compat == pytest.approx({"fscore": 0.944, "cd": 0.351, "nc": 0.835})


def test_what_a_protocol_measures_otherwise_is_left_out():
    for name in ("instantmesh", "vecset"):
        recipe = protocol.load(name)
        values = published.values(PRINTED, "table2", "full", recipe)
        assert ("fscore" in values) == (recipe.report.fscore == 0.1)
        assert ("cd" in values) == (recipe.report.cd == "cd_avg")


def test_a_row_without_a_published_value_is_empty_and_an_unknown_one_an_error():
    assert published.values(PRINTED, "table2", None, protocol.load("v1")) == {}
    with pytest.raises(UserError, match="did you mean 'no_pyramid'"):
        published.values(PRINTED, "table2", "no_pyramyd", protocol.load("v1"))


def test_the_full_model_is_the_same_in_both_tables():
    assert PRINTED["table1"]["mar3d"]["gso"] == PRINTED["table2"]["full"]["gso"]


def test_a_row_of_the_other_table_has_no_number_in_this_one():
    assert published.values(PRINTED, "table2", "triposr", protocol.load("v1")) == {}
    assert published.values(PRINTED, "table1", "no_pyramid", protocol.load("v1")) == {}


def test_every_row_and_dataset_of_table_1_has_a_name():
    assert set(PRINTED["table1"]) == set(PRINTED["labels"])
    assert {dataset for row in PRINTED["table1"].values() for dataset in row} == set(PRINTED["datasets"])
