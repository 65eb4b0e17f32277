"""`python -m methods plan` and `step`: what they print, and write as JSON."""

import json
import subprocess
import sys

import pytest

from core.identity import ROOT
from methods.__main__ import parser
from methods.foresee import command


def test_command_prints_a_table_and_json():
    command = [
        sys.executable,
        "-m",
        "methods",
        "plan",
        "--scale",
        "smoke",
        "--method",
        "mar3d/no_mar_hr",
        "--gpus",
        "8",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "mar3d.mar_lr-" in done.stdout and "8 cards" in done.stdout
    done = subprocess.run([*command, "--json", "-"], cwd=ROOT, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert record["assumed"]["utilisation"] == 0.4 and len(record["stages"]) == 2
    assert record["gpu_hours"] == pytest.approx(sum(s["gpu_hours"] for s in record["stages"]))


def test_step_runs_and_says_what_it_took():
    command = [
        sys.executable,
        "-m",
        "methods",
        "step",
        "--method",
        "mar3d/full",
        "--stage",
        "mar_lr",
        "--scale",
        "smoke",
    ]
    done = subprocess.run([*command, "--repeats", "2", "--device", "cpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        "s a step (of each kind the median of 2)" in done.stdout
        and "TFLOP/s of a large matrix product here" in done.stdout
    )
    done = subprocess.run([*command, "--compile", "--repeats", "0"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "--compile needs --repeats of at least 1" in done.stderr
    done = subprocess.run([*command, "--draw", "lr"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "no kind of step of mar_lr 'lr'" in done.stderr


def test_a_step_that_cannot_be_compiled_is_told_all_the_same(tmp_path, monkeypatch, capsys):
    def compile_blocks(_):
        raise RuntimeError("no compiler here\nmore")

    monkeypatch.setattr("methods.foresee.measure.compile_blocks", compile_blocks)
    monkeypatch.setattr("methods.foresee.measure.matrix_rate", lambda *_: 1e9)
    line = ["step", "--method", "mar3d/full", "--stage", "vae", "--scale", "smoke", "--repeats", "1", "--compile"]
    command.step(parser().parse_args([*line, "--device", "cpu", "--json", str(tmp_path / "step.json")]))
    found = json.loads((tmp_path / "step.json").read_text())
    assert found["step_seconds"] > 0 and found["compiled_seconds"] is None
    assert found["not_compiled"] == "no compiler here"
    assert "  not compiled: no compiler here\n" in capsys.readouterr().out
