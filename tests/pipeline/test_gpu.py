"""All that a machine with a GPU is for, by one command: its plan, what is skipped, how it fails; opt-in, all of it.

The whole chain at scale `smoke` on a CPU, and a second start of it, minutes:

    GPU_CHAIN=1 python -m pytest -n0 -s tests/pipeline/test_gpu.py
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from core.files import read_json
from core.identity import ROOT
from methods.__main__ import parser as methods_parser
from methods.foresee import command
from pipeline import config, gpu
from pipeline.dag import Dag
from pipeline.gpu import Piece
from reports.__main__ import parser as reports_parser

SMOKE = {"scale": "smoke", "dataset": "procedural"}
PIECES = ["tests", "backends", "step_vae", "step_mar_lr", "step_mar_hr", "data", "train", "tables", "sheet", "keep"]


def chain(folder, *options, **environment):
    """`python -m pipeline gpu` in a folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")}
    own |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    line = [sys.executable, "-m", "pipeline", "gpu", *options]
    return subprocess.run(line, cwd=folder, env=own, capture_output=True, text=True, timeout=3000)


def pieces(monkeypatch, *, cpu=False, bundled=False, visible="0"):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    options = dict(cores="2", cpu=cpu, out=None, targets=gpu.TARGETS, bundled=bundled)
    return {piece.name: piece for piece in gpu.pieces(Dag(config.load(SMOKE)), ["--config", "scale=smoke"], **options)}


@pytest.mark.parametrize("visible", ["", "-1"])
def test_without_a_gpu_it_says_so_at_once(tmp_path, visible):
    done = chain(tmp_path, CUDA_VISIBLE_DEVICES=visible)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"error: this machine shows no GPU (CUDA_VISIBLE_DEVICES is {visible!r})" in done.stderr
    assert not list(tmp_path.iterdir())


def test_its_plan_has_all_that_is_asked_of_a_machine_with_a_gpu(monkeypatch):
    found = pieces(monkeypatch)
    assert list(found) == ["card", *PIECES]
    assert list(pieces(monkeypatch, cpu=True)) == PIECES
    assert list(pieces(monkeypatch, bundled=True)) == ["card", *PIECES, "results"]
    assert found["tests"].environment == {"GPU": "1", "PAPER_STEPS": "1"}
    for stage in ("vae", "mar_lr", "mar_hr"):
        (step,) = found[f"step_{stage}"].commands
        assert methods_parser().parse_args(step[3:]).scale == "paper" and f"--stage {stage} --json" in " ".join(step)
        assert "--compile" in step and "--compile" not in pieces(monkeypatch, cpu=True)[f"step_{stage}"].commands[0]
    made = "\n".join(found["train"].commands[0])
    for setting in ("mar3d/full", "mar3d/no_pyramid", "mar3d/no_mar_hr", "dit/cascade", "ground_truth/full"):
        assert f"runs/procedural/smoke/generated/{setting}/seed0/generate.jsonl" in made
    assert set(gpu.TARGETS) < set(found["tables"].commands[0])
    assert "--resources" not in found["data"].commands[0]
    assert "gpu=3" in pieces(monkeypatch, visible="0,1,2")["train"].commands[0]


def test_its_commands_are_those_that_there_are(monkeypatch, tmp_path):
    found = pieces(monkeypatch)
    monkeypatch.chdir(tmp_path)
    folder = gpu.folder_of(Dag(config.load(SMOKE)))
    for path in (*gpu.TARGETS, folder / gpu.SHEET, folder / gpu.MEASURED):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    _, index, keep = found["keep"].commands()
    record = reports_parser().parse_args(keep[3:])
    assert record.out == Path("reports/recorded/smoke-procedural") and [path.name for path in record.also][1:] == [
        "measured.json"
    ]
    assert reports_parser().parse_args(index[3:]).out == record.reports / "all"
    sheet = methods_parser().parse_args(found["sheet"].commands[0][3:])
    assert sheet.out == record.also[0] and len(sheet.generated) == 6
    for name in (word for word in found["tests"].commands[0] if word.startswith(f"{ROOT}/tests")):
        path, _, function = name.partition("::")
        assert f"def {function}(" in Path(path).read_text() if function else Path(path).is_file()


def test_a_step_writes_what_it_took_and_that_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("methods.foresee.measure.matrix_rate", lambda *_: 1e9)
    monkeypatch.setattr(gpu, "folder_of", lambda dag: tmp_path)
    of_chain = pieces(monkeypatch, cpu=True)["step_mar_lr"]
    options = methods_parser().parse_args([*of_chain.commands[0][3:], "--repeats", "1", "--device", "cpu"])
    command.step(options)
    found = of_chain.read("")
    assert of_chain.makes == options.json
    assert (found["device"], found["batch"], found["timed"], found["matrix_tflops"]) == ("cpu", 8, 1, 1e-3)
    assert found["samples_per_second"] == pytest.approx(8 / found["step_seconds"])
    assert found["utilisation"] == pytest.approx(found["step_tflop"] / found["step_seconds"] / 1e-3)
    printed = capsys.readouterr().out
    assert f"  {found['step_seconds']:.3g} s a step" in printed and f"  loss {found['loss']:.4g}" in printed


def test_what_there_is_is_kept_and_nothing_without_table_2(monkeypatch, tmp_path):
    found = pieces(monkeypatch)["keep"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no reports/table2.csv to keep: run `tables` as well"):
        found.commands()
    Path("reports").mkdir()
    Path(gpu.TARGETS[0]).touch()
    copy, _, keep = found.commands()
    assert copy[2:-1] == [gpu.TARGETS[0]] and keep[-1] == "--also"  # no sheet, nothing measured


def piece(name, folder, *, of="a", status=0, **more):
    """A piece that leaves a line in a file each time it is run."""
    code = f"print('said'); open({str(folder / name)!r}, 'a').write('.'); raise SystemExit({status})"
    return Piece(name, [[sys.executable, "-c", code]], (lambda: of) if of else None, **more)


def times(folder, name):
    return len((folder / name).read_text()) if (folder / name).exists() else 0


def test_what_is_done_is_not_done_again_unless_what_it_depends_on_has_changed(tmp_path, capfd):
    def run(**second):
        todo = [piece("first", tmp_path), piece("second", tmp_path, **second), piece("each", tmp_path, of=None)]
        gpu.run(todo, tmp_path / "record")
        return [times(tmp_path, name) for name in ("first", "second", "each")]

    assert run() == [1, 1, 1]
    assert run() == [1, 1, 2] and "first: done before" in capfd.readouterr().out
    assert run(of="b") == [1, 2, 3]
    assert run(of="b", makes=tmp_path / "gone") == [1, 3, 4]
    record = read_json(tmp_path / "record/measured.json")
    assert len(record["each"]["seconds"]) == 4 and len(record["second"]["seconds"]) == 1
    assert (tmp_path / "record/first.log").read_text() == "said\n"


def test_another_card_measures_anew(tmp_path):
    todo = [piece("step", tmp_path)]
    gpu.run(todo, tmp_path / "record")
    before = read_json(tmp_path / "record/measured.json")
    assert gpu.is_done(todo[0], before) and not gpu.is_done(todo[0], before | {"card": {"name": "another"}})


def test_a_piece_that_fails_ends_it_with_a_sentence_and_the_next_start_goes_on_from_there(tmp_path):
    todo = [piece("first", tmp_path), piece("second", tmp_path, status=137, remedy="do this"), piece("third", tmp_path)]
    with pytest.raises(UserError) as error:
        gpu.run(todo, tmp_path / "record")
    said = str(error.value)
    assert said.startswith("second failed (out of memory; ") and "second.log has what it printed" in said
    assert "do this: the same command goes on from there" in said and "--without second" in said
    assert "\n" not in said
    gpu.run(todo, tmp_path / "record", without=["second"])
    assert [times(tmp_path, name) for name in ("first", "second", "third")] == [1, 1, 1]
    with pytest.raises(UserError, match=r"no piece 'secnd'.*did you mean 'second'"):
        gpu.run(todo, tmp_path / "record", without=["secnd"])


def test_what_a_failed_start_took_counts(tmp_path):
    with pytest.raises(UserError, match=r"train failed \(exit status 1"):
        gpu.run([piece("train", tmp_path, of=None, status=1)], tmp_path / "record")
    gpu.run([piece("train", tmp_path, of=None)], tmp_path / "record")
    idle = Piece("train", [[sys.executable, "-c", "print('Nothing to be done.')"]])
    gpu.run([idle], tmp_path / "record")
    assert len(read_json(tmp_path / "record/measured.json")["train"]["seconds"]) == 2


def test_a_dry_run_writes_nothing(tmp_path, capfd):
    gpu.run([piece("first", tmp_path), piece("each", tmp_path, of=None)], tmp_path / "record", dry=True)
    assert capfd.readouterr().out == "first: to do\neach: asks what is left to do\n"
    assert not list(tmp_path.iterdir())


def test_what_was_measured_is_told_in_a_few_lines(tmp_path):
    step = {"samples_per_second": 61.5, "batch": 32, "utilisation": 0.432, "matrix_tflops": 712.0}
    record = {"card": {"name": "NVIDIA H200"}, "step_mar_lr": step | {"peak_memory_gb": 41.0}}
    gpu.write_json(tmp_path / "measured.json", record | {"train": {"seconds": [1800.0, 60.0]}})
    assert gpu.summary(tmp_path).splitlines() == [
        "card: NVIDIA H200",
        "step_mar_lr: 61.5 samples/s at batch 32, 43.2% of the measured 712 TFLOP/s (asked: 40%), 41 GB",
        "train: 31.0 min in 2 starts (of 45 at scale gpu)",
    ]


@pytest.mark.skipif(not os.environ.get("GPU_CHAIN"), reason="minutes: GPU_CHAIN=1")
def test_the_whole_chain_runs_at_scale_smoke_without_a_gpu_and_then_has_nothing_to_do(tmp_path):
    options = ["--cpu", "--scale", "smoke", "--dataset", "procedural", "--cores", "2"]
    first = chain(tmp_path, *options)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr
    kept = tmp_path / "reports/recorded/smoke-procedural"
    names = {path.name for path in kept.iterdir()}
    assert names > {"table2.csv", "table1.csv", "figure3.png", "rows.csv", "manifest.json", "sheet.png"}
    measured = read_json(kept / "measured.json")
    assert all(measured[f"step_{stage}"]["samples_per_second"] > 0 for stage in gpu.STEPS)
    assert "dit/cascade/seed0" in read_json(kept / "manifest.json")["generated"]
    again = chain(tmp_path, *options)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr
    assert len(re.findall("done before", again.stdout)) == 6
    assert again.stdout.count("Nothing to be done") == 3
    assert read_json(kept / "measured.json")["train"] == measured["train"]
