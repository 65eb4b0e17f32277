"""Every path is found, says what it is, and what it needs from outside is refused or reported in one sentence."""

import argparse
import importlib
import subprocess
import sys

import pytest

from benchmarks import __main__ as front
from benchmarks import dag, machine, peers, preparation
from benchmarks.__main__ import PATHS, _chosen, _given, main
from benchmarks.measure import spread
from benchmarks.options import Options
from core.errors import UserError
from core.identity import ROOT
from data.sources import load


@pytest.mark.parametrize("name", PATHS)
def test_a_path_has_a_summary_a_run_and_a_growth(name):
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.SUMMARY
    assert callable(module.run)
    assert callable(module.growth)


def test_listing_needs_no_torch(capsys):
    code = "import sys; from benchmarks.__main__ import main; main(['list']); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False"
    assert all(name in said for name in PATHS)


def test_an_unknown_path_is_one_sentence():
    with pytest.raises(UserError, match="there is no path 'nothing'"):
        main(["run", "nothing"])


def test_a_device_measures_the_paths_that_it_makes_faster(monkeypatch):
    chosen = lambda device: _chosen(argparse.Namespace(paths=[], device=device))  # noqa: E731
    assert chosen("cpu") == list(PATHS)
    assert set(PATHS) - set(chosen("cuda")) == {"preparation", "scoring", "dag"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU here"):
        main(["run", "--device", "cuda"])
    with pytest.raises(UserError, match="a GPU does not change scoring"):
        _chosen(argparse.Namespace(paths=["scoring", "extraction"], device="cuda"))


def test_inputs_are_told_without_what_is_above_them(tmp_path):
    given = _given(argparse.Namespace(meshes=None, finished=tmp_path / "runs/meshes/cpu", peers=tmp_path / "peers"))
    assert given == {"finished": "meshes/cpu", "peers": "peers"}


def test_a_peer_is_imported_from_its_clone_and_leaves_nothing(tmp_path):
    with peers.cloned(None, "mar", "models.mar") as module:
        assert module == peers.NOT_INSTALLED
    with peers.cloned(tmp_path, "mar", "models.mar") as module:
        assert module == peers.NOT_INSTALLED
    (tmp_path / "mar" / "models").mkdir(parents=True)
    (tmp_path / "mar" / "models" / "mar.py").write_text("HERE = 1\n")
    before = list(sys.path)
    with peers.cloned(tmp_path, "mar", "models.mar") as module:
        assert module.HERE == 1
    assert sys.path == before
    assert "models.mar" not in sys.modules
    (tmp_path / "mar" / "models" / "mar.py").write_text("import not_there_at_all\n")
    with peers.cloned(tmp_path, "mar", "models.mar") as module:
        assert "not_there_at_all" in module


def test_too_few_meshes_are_refused(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\n")
    with pytest.raises(UserError, match="1 meshes, the benchmark needs 5"):
        preparation.objects(Options(meshes=tmp_path), 5, tmp_path)


def test_procedural_objects_are_prepared_as_anyones_meshes(tmp_path):
    source, specs = preparation.objects(Options(), 3, tmp_path)
    assert len({spec.object for spec in specs}) == 3
    assert all(not load(spec, source).solid for spec in specs)  # so that the watertight stage has its work


def test_the_full_recipe_is_the_one_that_was_asked_for():
    recipe = preparation.recipe(Options())
    assert recipe["points"] == 16384
    assert recipe["volume"] + recipe["near"] == 4 * 65536
    assert recipe["azimuths"] * (1 + recipe["rotations"]) == 56
    assert recipe["image_size"] == 224


def test_job_counts_are_read_from_snakemakes_table():
    rows = "fit            12\nprepare        26\ntotal          38\n"
    text = f"Building DAG\nJob stats:\njob        count\n--------  -------\n{rows}"
    assert dag.job_counts(text + "\n" + text) == {"fit": 12, "prepare": 26, "total": 38}
    with pytest.raises(RuntimeError, match="no table"):
        dag.job_counts("Nothing to be done\n")


def test_a_start_that_imports_torch_misses_a_target():
    seconds = spread([0.5])
    assert not dag._start_row("a job", seconds, False, 0.1).missed
    assert dag._start_row("a job", seconds, True, 0.1).missed


def test_planning_is_without_the_start_of_its_round():
    assert dag.planning([2.0, 3.0], [1.5, 1.0]) == [0.5, 2.0]
    assert dag.planning([1.0], [1.1]) == [dag.LEAST_SECONDS]


def test_the_planned_run_is_a_valid_configuration():
    from pipeline import config

    for dataset in dag.DATASETS:
        found = config.load(dag.config_of(20, 5, dataset))
        assert found["dataset"] == dataset
        assert len(set(found["table2"]["settings"])) == 20
        assert len(found["seeds"]) == 5


def test_more_settings_than_there_are_is_refused():
    with pytest.raises(UserError, match="lower it"):
        dag.variants(10000)


def test_a_run_waits_for_the_load_of_what_ran_before(monkeypatch, capsys):
    loads, slept = [1.4, 1.4, 0.9, 0.5], []
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (loads[0], 0.0, 0.0))
    monkeypatch.setattr(front.time, "sleep", lambda seconds: (slept.append(seconds), loads.pop(0)))
    front._wait_while_loaded()
    assert loads == [0.5]
    assert capsys.readouterr().out == "load 1.4: waiting for it to fall, at most 120 s\n"
    front._wait_while_loaded()
    assert len(slept) == 3
    assert capsys.readouterr().out == ""


def test_other_work_is_not_waited_for_longer_than_said(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(machine, "loaded", lambda: True)
    monkeypatch.setattr(front.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(front.time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    front._wait_while_loaded()
    assert now == [front.PATIENCE]


def test_what_a_run_writes_is_no_change_of_the_code(monkeypatch, tmp_path):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    names = ("benchmarks/README.md", "benchmarks/results/box.json", "benchmarks/dag.py")
    for name in names:
        (tmp_path / name).write_text("before\n")
    git("init")
    git("add", "--all")
    git("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--message", "a")
    monkeypatch.setattr("methods.manifest.ROOT", tmp_path)
    assert machine.code_state(tmp_path)["dirty"] is False
    for name, dirty in zip(names, (False, False, True), strict=True):
        (tmp_path / name).write_text("after\n")
        assert machine.code_state(tmp_path)["dirty"] is dirty


@pytest.mark.parametrize("load, busy", [(0.5, False), (0.7, True)])
def test_a_machine_is_described_and_a_busy_one_is_told(monkeypatch, load, busy):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (load, 0.0, 0.0))
    about = machine.describe(threads=1)
    assert about["busy"] is busy
    assert about["pace_ms"] > 1
    assert "torch" in about["packages"]


def test_the_pace_is_that_of_the_quickest_of_five_loops():
    ticks = iter([0.0, 0.3, 1.0, 1.1, 2.0, 2.2, 3.0, 3.5, 4.0, 4.4])
    assert machine.pace(clock=lambda: next(ticks)) == pytest.approx(100.0)
