"""What a run takes from elsewhere: meshes of other systems, rows of other runs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from core.errors import UserError
from core.identity import ROOT
from methods import registry
from pipeline import config
from pipeline.dag import Dag


def test_the_meshes_of_an_external_system_are_inputs(tmp_path, monkeypatch):
    (tmp_path / "procedural" / "sub").mkdir(parents=True)
    for name in ("b.v00.glb", "sub/a {x}.OBJ", "note.txt"):
        (tmp_path / "procedural" / name).write_text("")
    smoke = Dag(config.load({"scale": "smoke"}))
    card = SimpleNamespace(method="triposr", variant="full")
    plan = registry.resolve("external", "full", "smoke")
    params = {**plan.params, "root": f"{tmp_path}/{{dataset}}"}
    theirs = replace(plan, method=replace(plan.method, kind="external"), params=params)
    monkeypatch.setattr(registry, "resolve", lambda *_: theirs)
    assert [path.split("/")[-1] for path in smoke.outside_meshes(card)] == ["b.v00.glb", "a {x}.OBJ"]
    monkeypatch.setattr(registry, "resolve", lambda *_: plan)
    assert smoke.outside_meshes(card) == []


def test_rows_of_other_runs_are_inputs_of_table_1_alone():
    recorded = "reports/recorded/cpu-procedural/rows.csv"
    smoke = Dag(config.load({"scale": "smoke", "table1": {"settings": ["mar3d/full"], "rows": [recorded]}}))
    assert smoke.rows("table1")[-1] == str(ROOT / recorded)
    assert str(ROOT / recorded) not in smoke.rows("table2")
    with pytest.raises(UserError, match=r"table1\.rows: there is no file .*nowhere\.csv"):
        config.load({"scale": "smoke", "table1": {"rows": ["nowhere.csv"]}})
