"""Protocol files: all of them load, faulty ones are one clear line."""

from __future__ import annotations

import copy

import pytest
import yaml

from core.errors import UserError
from evaluation import protocol

RAW = yaml.safe_load((protocol.FOLDER / "v1.yaml").read_text(encoding="utf-8"))


def test_every_protocol_loads_and_v1_comes_first():
    assert protocol.names()[0] == "v1"
    assert set(protocol.names()) >= {"v1", "mar3d_compat", "triposr", "instantmesh", "vecset"}
    for name in protocol.names():
        recipe = protocol.load(name)
        assert recipe.name == name
        assert f"fscore_{recipe.report.fscore:g}" in recipe.metrics


def test_v1_says_what_it_has_always_said():
    v1 = protocol.load("v1")
    assert v1.points == 100_000
    assert v1.fscore == (0.01, 0.02, 0.05, 0.1, 0.2)
    assert v1.metrics == [
        "cd_avg", "cd_sum", "cd_sq", "fscore_0.01", "fscore_0.02", "fscore_0.05", "fscore_0.1", "fscore_0.2",
        "nc", "nc_signed", "viou_64", "viou_128",
    ]  # fmt: skip
    assert (v1.align.icp, v1.align.yaw_steps, v1.align.free_pose, v1.align.keep) == ("rigid", 24, False, 3)
    compat = protocol.load("mar3d_compat")
    assert (compat.points, compat.align.icp, compat.report.cd_unit) == (10_000, "similarity", 0.1)


def test_an_unknown_protocol_is_one_line_with_the_choices():
    with pytest.raises(UserError, match=r"no protocol 'mar3d_compt'.*did you mean 'mar3d_compat'"):
        protocol.load("mar3d_compt")


def test_a_file_that_says_something_twice_is_refused(tmp_path, monkeypatch):
    text = (protocol.FOLDER / "v1.yaml").read_text(encoding="utf-8")
    (tmp_path / "v1.yaml").write_text(text + "points: 10\n")
    monkeypatch.setattr(protocol, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="the key 'points' stands twice"):
        protocol.load("v1")


@pytest.mark.parametrize("path, value, message", [
    (("colour",), "blue", "test: there is no key 'colour'"),
    (("align", "icp_point"), 3, "test: align: there is no key 'icp_point'.*did you mean 'icp_points'"),
    (("points",), "many", "test: points is 'many': expected int"),
    (("points",), True, "test: points is True: expected int"),
    (("points",), 0, "points must be above zero"),
    (("align",), None, "test: align is None: expected dict"),
    (("align", "icp"), "affine", "choose one of none, rigid, similarity"),
    (("align", "tolerance"), "1e-6", "expected float"),
    (("fscore",), 0.1, "write a list"),
    (("fscore",), [], "fscore must be above zero and not empty"),
    (("viou",), [64, -1], "viou must be above zero"),
    (("report", "fscore"), 0.3, "report.fscore 0.3 is not among"),
    (("align", "starts"), "none", "use starts: identity"),
    (("name",), "v2", "called test.yaml|make them agree"),
])  # fmt: skip
def test_a_faulty_file_is_one_line_that_names_the_key(path, value, message):
    raw = copy.deepcopy(RAW)
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UserError, match=message) as error:
        protocol.parse(raw, where="test", name="v1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", list(RAW))
def test_a_missing_key_is_named(key):
    raw = {name: value for name, value in RAW.items() if name != key}
    with pytest.raises(UserError, match=f"key '{key}' is missing"):
        protocol.parse(raw, where="test", name="v1")


def test_a_file_that_is_no_mapping_is_refused():
    with pytest.raises(UserError, match="expected keys"):
        protocol.parse(["points"], where="test", name="v1")
