import subprocess
import sys
import time

from core.identity import ROOT

ALONE = [sys.executable, "-m", "pipeline", "alone"]


def start(lock, *code):
    return subprocess.Popen(
        [*ALONE, str(lock), sys.executable, "-c", "; ".join(code)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def test_a_second_job_waits_until_the_first_has_ended(tmp_path):
    lock, log, go = tmp_path / "deep" / "a.lock", tmp_path / "log", tmp_path / "go"
    write = f"f = open({str(log)!r}, 'a')"
    wait = f"[time.sleep(0.01) for _ in iter(lambda: os.path.exists({str(go)!r}), True)]"
    first = start(lock, "import os, time", write, "f.write('1 begins '); f.flush()", wait, "f.write('1 ends ')")
    while not log.exists() or not log.read_text():
        time.sleep(0.01)
    second = start(lock, write, "f.write('2')")
    assert "earlier run" in second.stderr.readline()
    go.touch()
    first.communicate()
    second.communicate()
    assert log.read_text() == "1 begins 1 ends 2"


def test_a_killed_job_leaves_no_lock(tmp_path):
    first = start(tmp_path / "a.lock", f"open({str(tmp_path / 'begun')!r}, 'w')", "import time", "time.sleep(60)")
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    first.kill()
    first.communicate()
    second = start(tmp_path / "a.lock", "pass")
    assert second.communicate() == (None, "")
    assert second.returncode == 0


def test_the_status_is_the_commands(tmp_path):
    job = start(tmp_path / "a.lock", "import sys", "sys.exit(7)")
    job.communicate()
    assert job.returncode == 7
