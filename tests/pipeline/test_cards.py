"""Each job has cards of its own, and gives them back when it dies."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.identity import ROOT
from pipeline import cards, lock


@pytest.fixture(autouse=True)
def two_cards(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where the lock files of the jobs lie
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


ALONE = [sys.executable, "-m", "pipeline", "alone"]


def job(lock_file, gpus, code, **environment):
    command = [*ALONE, "--gpus", str(gpus), str(lock_file), sys.executable, "-c", code]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, env=os.environ | environment)


SHOW = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"


def test_two_jobs_have_different_cards_and_a_third_waits_for_one_that_dies(tmp_path):
    hold = SHOW + "; import sys, time; sys.stdout.flush(); time.sleep(60)"
    first, second = (job(tmp_path / name, 1, hold) for name in "ab")
    seen = [process.stdout.readline().strip() for process in (first, second)]
    assert sorted(seen) == ["3", "5"]
    third = job(tmp_path / "c", 1, SHOW)
    time.sleep(1.0)
    assert third.poll() is None
    first.kill()
    assert third.communicate()[0].strip() == seen[0]
    second.kill()
    for process in (first, second):
        process.communicate()


def test_a_job_may_take_several(tmp_path):
    assert job(tmp_path / "a", 2, SHOW).communicate()[0].strip() == "3,5"


def test_a_job_without_gpu_sees_none(tmp_path):
    assert job(tmp_path / "a", 0, SHOW).communicate()[0] == "\n"


@pytest.mark.parametrize("gpus", [2, 4])  # 4: the other two are on another node
def test_where_slurm_has_chosen_nothing_is_changed(tmp_path, gpus):
    assert job(tmp_path / "a", gpus, SHOW, SLURM_JOB_ID="7").communicate()[0].strip() == "3,5"


def test_in_an_allocation_of_several_cards_jobs_share_them_out_and_do_not_wait_for_another_allocation(tmp_path):
    hold = SHOW + "; import sys, time; sys.stdout.flush(); time.sleep(60)"
    jobs = [job(tmp_path / name, 1, hold, SLURM_JOB_ID=number) for name, number in (("a", "7"), ("b", "7"), ("c", "8"))]
    seen = [process.stdout.readline().strip() for process in jobs]
    assert sorted(seen[:2]) == ["3", "5"]
    assert seen[2] in seen[:2]
    for process in jobs:
        process.kill()
        process.communicate()


def test_the_locks_are_in_a_folder_for_all_users(tmp_path):
    old = os.umask(0o077)
    try:
        folder = cards._for_all(tmp_path / "cards")
    finally:
        os.umask(old)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert cards._for_all(folder) == folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_card_that_another_user_has_locked_is_not_free():
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # pytest's folders are private
        os.chmod(place, 0o711)
        folder = cards._for_all(Path(place) / "cards")
        paths = [folder / "0.lock", folder / "1.lock"]
        assert lock.take_some(paths[:1], 1) == paths[:1]
        child = os.fork()
        if child == 0:  # another user
            try:
                os.setuid(65534)
                os._exit(10 + 10 * len(lock.take_some(paths, 2)) + len(lock.take_some(paths, 1)))
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 11  # not both, but one
        assert lock.take_some(paths[1:], 1) == paths[1:]  # it made that file, and is gone


def test_the_cards_of_a_container_count_from_zero(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    for name in ("nvidia3", "nvidia6", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(cards, "DEVICES", tmp_path)
    assert cards.cards() == ["0", "1"] and cards.shows_any()


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("-1", []), ("NoDevFiles", []), ("2,-1,3", ["2"]), ("GPU-6a, MIG-2b", ["GPU-6a", "MIG-2b"])],
)
def test_a_name_of_no_card_hides_it_and_those_behind_it_as_cuda_has_it(tmp_path, monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert cards.cards() == names and cards.shows_any() == bool(names)
    if not names:
        with pytest.raises(UserError, match="asks for 1 GPUs and this machine shows 0"):
            cards.choose(1, tmp_path)


def test_linux_under_windows_shows_one_card(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(cards, "DEVICES", tmp_path)
    assert cards.cards() == [] and not cards.shows_any()
    (tmp_path / "dxg").touch()
    assert cards.cards() == ["0"] and cards.shows_any()


def test_more_cards_than_there_are_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="asks for 3 GPUs and this machine shows 2"):
        cards.choose(3, tmp_path)


def test_some_are_taken_whole_or_not_at_all(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    holder = job(tmp_path / "a", 0, "print('held', flush=True); import time; time.sleep(60)")  # locks `a` itself
    assert holder.stdout.readline().strip() == "held"
    assert lock.take_some(paths, 3) == []
    assert lock.take_some(paths, 2) == paths[1:]  # the failed attempt left nothing locked
    holder.kill()
    holder.communicate()
