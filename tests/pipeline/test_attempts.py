"""A job that is killed at every attempt leaves a record; one that somebody stops, or that ends by itself, does not."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from core.files import read_json
from core.identity import ROOT
from methods.places import stage_folder
from methods.registry import resolve

SELF_KILL = """
import os, pathlib, signal, sys
if sys.argv[2] == "2":  # SIGINT is ignored in what a shell starts in its background
    signal.signal(signal.SIGINT, signal.SIG_DFL)
if "--killed" in sys.argv:
    pathlib.Path(sys.argv[1]).write_text(sys.argv[-1])
else:
    os.kill(os.getpid(), int(sys.argv[2]))
"""
WAITS = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.01)
"""


def start(lock, attempt, *command):
    alone = [sys.executable, "-m", "pipeline", "alone", "--attempt", str(attempt), str(lock)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*alone, sys.executable, "-c", *map(str, command)], env=environment, stderr=subprocess.PIPE, text=True
    )


def until(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


def test_the_first_death_is_left_to_the_next_attempt(tmp_path):
    job = start(tmp_path / "a.lock", 1, SELF_KILL, tmp_path / "record", signal.SIGKILL.value)
    job.communicate()
    assert job.returncode == -signal.SIGKILL
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGKILL, "killed by SIGKILL at the last of 2 attempts (exit status 137; out of memory?)"),
        (signal.SIGSEGV, "killed by SIGSEGV at the last of 2 attempts (exit status 139)"),
    ],
)
def test_the_last_death_is_recorded_by_the_command_itself(tmp_path, number, reason):
    job = start(tmp_path / "a.lock", 2, SELF_KILL, tmp_path / "record", number.value)
    _, errors = job.communicate()
    assert job.returncode == 0
    assert (tmp_path / "record").read_text() == reason
    assert reason in errors


def test_what_somebody_stops_is_no_failure(tmp_path):
    job = start(tmp_path / "a.lock", 2, WAITS, tmp_path / "begun", tmp_path / "go")
    until(tmp_path / "begun")
    job.terminate()
    job.communicate()
    assert job.returncode == 128 + signal.SIGTERM  # and WAITS, which would begin again, is not run with --killed
    job = start(tmp_path / "a.lock", 2, SELF_KILL, tmp_path / "record", signal.SIGINT.value)
    job.communicate()
    assert job.returncode != 0 and not (tmp_path / "record").exists()


@pytest.mark.parametrize("status", [7, 255])
def test_an_end_of_its_own_is_no_death(tmp_path, status):
    job = start(tmp_path / "a.lock", 2, f"import sys; sys.exit({status})")
    job.communicate()
    assert job.returncode == status


def test_python_out_of_memory_is_a_death_too(tmp_path):
    greedy = """
import pathlib, sys
from core.errors import run_cli
def main():
    if "--killed" not in sys.argv:
        raise MemoryError("Unable to allocate 9 EiB")
    pathlib.Path(sys.argv[1]).write_text(sys.argv[-1])
run_cli(main)
"""
    first = start(tmp_path / "a.lock", 1, greedy, tmp_path / "record")
    assert "not enough memory (Unable to allocate 9 EiB)" in first.communicate()[1]
    assert first.returncode == 137 and not (tmp_path / "record").exists()
    last = start(tmp_path / "a.lock", 2, greedy, tmp_path / "record")
    last.communicate()
    assert last.returncode == 0
    assert "out of memory" in (tmp_path / "record").read_text()


@pytest.mark.parametrize(
    ("name", "why"), [("OutOfMemoryError", "137; out of memory?"), ("AcceleratorError", "134; a fault of the GPU?")]
)
def test_a_gpu_that_is_full_or_has_failed_is_a_death_too(tmp_path, name, why):
    faulty = """
import pathlib, sys, types
from core.errors import run_cli
names = ("OutOfMemoryError", "AcceleratorError")
sys.modules["torch"] = types.SimpleNamespace(**{name: type(name, (RuntimeError,), {}) for name in names})
def main():
    if "--killed" not in sys.argv:
        raise getattr(sys.modules["torch"], sys.argv[2])("CUDA error")
    pathlib.Path(sys.argv[1]).write_text(sys.argv[-1])
run_cli(main)
"""
    first = start(tmp_path / "a.lock", 1, faulty, tmp_path / "record", name)
    first.communicate()
    assert first.returncode == int(why[:3]) and not (tmp_path / "record").exists()
    last = start(tmp_path / "a.lock", 2, faulty, tmp_path / "record", name)
    last.communicate()
    assert last.returncode == 0
    assert f"(exit status {why})" in (tmp_path / "record").read_text()


def test_the_lock_lives_with_the_command(tmp_path):
    job = start(tmp_path / "a.lock", 2, WAITS, tmp_path / "begun", tmp_path / "go")
    until(tmp_path / "begun")
    job.kill()
    job.wait()
    second = start(tmp_path / "a.lock", 1, "pass")
    assert "earlier run" in second.stderr.readline()
    (tmp_path / "go").touch()
    second.communicate()
    job.communicate()
    assert second.returncode == 0


# A front door behind which the template's stage takes more memory than there is.
GREEDY = """
import os, signal
from core.errors import run_cli
from methods.__main__ import main
from methods.template.method import SilhouetteEllipsoid
SilhouetteEllipsoid.fit = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
run_cli(main)
"""


def test_a_method_that_is_killed_twice_stands_in_its_rows_as_failed(ellipsoids, tmp_path):
    names = ["--method=template", "--variant=full", "--scale=smoke", "--dataset=ellipsoids", "--seed=0"]
    places = [f"--prepared={ellipsoids}", f"--runs={tmp_path}"]
    stage = stage_folder(tmp_path, "ellipsoids", "smoke", resolve("template", "full", "smoke").stages[0], 0)
    for attempt, status in ((1, -signal.SIGKILL), (2, 0)):
        assert not (stage / "manifest.json").exists()
        job = start(tmp_path / "a.lock", attempt, GREEDY, "fit", "--stage=depth", *names, *places)
        _, errors = job.communicate()
        assert job.returncode == status, errors
    manifest = read_json(stage / "manifest.json")
    reason = "fitting depth: killed by SIGKILL at the last of 2 attempts (exit status 137; out of memory?)"
    assert (manifest["status"], manifest["reason"], manifest["resumes"]) == ("failed", reason, 1)
    job = start(tmp_path / "b.lock", 1, GREEDY, "generate", *names, *places, f"--out={tmp_path / 'out'}")
    _, errors = job.communicate()
    assert job.returncode == 0, errors
    rows = [json.loads(line) for line in (tmp_path / "out/generate.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    assert {row["reason"] for row in rows} == {f"stage depth failed ({reason})"}
