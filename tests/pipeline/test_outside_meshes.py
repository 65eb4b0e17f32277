from dataclasses import replace
from types import SimpleNamespace

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
