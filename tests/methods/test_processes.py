"""Two processes train what one trains: same losses, same weights, resumed from one number of processes to the other."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.errors import UserError
from core.files import read_json
from core.identity import ROOT
from methods import idle, run
from methods.contract import PreparedData
from methods.manifest import read_stage
from methods.training import processes
from methods.training.devices import fabric_of, share_work
from methods.training.draws import WHOLE, Share
from methods.training.launched import Launched
from methods.training.launcher import death_among

SCRIPT = Path(__file__).with_name("two_processes.py")
SPEC = importlib.util.spec_from_file_location("two_processes", SCRIPT)
two_processes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(two_processes)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


class StoppedError(Exception):
    """Stands for a kill, in this very process."""


@pytest.fixture(scope="module")
def out(prepared, tmp_path_factory):
    """Everything trained, by one process and by two."""
    out = tmp_path_factory.mktemp("processes")
    two_processes.vae(prepared, out / "one" / "vae")
    two_processes.vae(prepared, out / "one" / "muon", "muon")
    two_processes.mar(prepared, out / "one" / "vae", out / "one" / "mar_lr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(two_processes.loop.train.__kwdefaults__, "save_every", 0.0)
        line = two_processes.log.Log.line

        def stop(self, at, *rest):
            if at == two_processes.KILL_AT:
                raise StoppedError
            line(self, at, *rest)

        patch.setattr(two_processes.log.Log, "line", stop)
        with pytest.raises(StoppedError):
            two_processes.vae(prepared, out / "one_to_two")
    killed = torchrun(SCRIPT, prepared, out, "killed")
    assert killed.returncode != 0
    (out / "stderr").write_text(killed.stderr)
    (out / "header.json").write_text(json.dumps(two_processes.loop.checkpoint.read_header(out / "killed" / "resume")))
    shutil.copytree(out / "killed", out / "two_to_one")
    two_processes.vae(prepared, out / "two_to_one", "muon")
    again = torchrun(SCRIPT, prepared, out, "again")
    assert again.returncode == 0, again.stderr[-3000:]
    return out


def torchrun(*command, count=2, timeout=100):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run(
        [*launcher, "--monitor-interval=0.1", *command],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def losses(folder: Path) -> torch.Tensor:
    lines = [json.loads(line) for line in (folder / "fit.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, two_processes.STEPS + 1))
    return torch.tensor([[line["loss"], line["grad_norm"]] for line in lines])


def same_weights(a: Path, b: Path, tolerance: float) -> None:
    a, b = (load_file(folder / "weights.safetensors") for folder in (a, b))
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("stage", ["vae", "mar_lr"])
def test_two_processes_have_the_losses_of_one(out, stage):
    torch.testing.assert_close(losses(out / "two" / stage), losses(out / "one" / stage), atol=1e-5, rtol=1e-5)
    costs = [read_json(out / number / stage / "costs.json") for number in ("one", "two")]
    assert costs[0] == costs[1]
    assert read_json(out / "two" / stage / "speed.json")["processes"] == 2


@pytest.mark.skipif(not os.environ.get("COMPILE"), reason="minutes of compiling, by g++: COMPILE=1")
def test_two_processes_that_compile_have_the_losses_of_one_that_does_not(out, prepared):
    compiled = torchrun(SCRIPT, prepared, out, "compiled", timeout=900)
    assert compiled.returncode == 0, compiled.stderr[-3000:]
    for stage in ("vae", "mar_lr"):
        torch.testing.assert_close(losses(out / "compiled" / stage), losses(out / "one" / stage), atol=1e-5, rtol=1e-5)


def test_a_killed_process_ends_the_run_with_a_remedy_and_a_state_to_resume_from(out):
    assert "lost another one, while fitting vae; run the same command again" in (out / "stderr").read_text()
    assert read_json(out / "header.json")["step"] == two_processes.KILL_AT
    same_weights(out / "killed", out / "two" / "muon", 0.0)
    assert (out / "killed" / "fit.jsonl").read_text() == (out / "two" / "muon" / "fit.jsonl").read_text()


def test_one_process_goes_on_where_another_stopped_and_two_where_one_did(out):
    assert losses(out / "one_to_two").sub(losses(out / "one" / "vae")).abs().max() < 1e-5
    same_weights(out / "one_to_two", out / "one" / "vae", 1e-4)
    assert losses(out / "two_to_one").sub(losses(out / "one" / "muon")).abs().max() < 1e-4
    same_weights(out / "two_to_one", out / "one" / "muon", 5e-3)  # Muon works in bfloat16


def test_one_process_in_an_allocation_of_several_tasks_trains_alone(monkeypatch):
    environment(monkeypatch, SLURM_JOB_ID="1", SLURM_JOB_NAME="x", SLURM_NTASKS="8")
    assert fabric_of(torch.device("cpu")).world_size == 1


def srun(code: str, **variables: str) -> list[tuple[int, str, str]]:
    """What two tasks of a job end with, print and complain of; they begin as a fit does, with Fabric as `f`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "SLURM_JOB_ID": "7"}
    variables |= {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
    begin = "import os, time, torch; from core.errors import run_cli; from methods.training import devices\n"
    begin += "f = devices.fabric_of(torch.device('cpu'))\n"
    command, pipe = [sys.executable, "-c", begin + code], subprocess.PIPE
    own = [ENVIRONMENT | variables | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in "01"]
    tasks = [subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True) for env in own]
    said = [task.communicate(timeout=60) for task in tasks]
    return [(task.returncode, *texts) for task, texts in zip(tasks, said, strict=True)]


@pytest.mark.parametrize("name", ["interactive", "train"])
def test_tasks_of_srun_find_each_other_whatever_the_job_is_called(name):
    """Without --ntasks-per-node, and with a job name by which Lightning tells that nobody has started its processes."""
    code = "print(f.world_size, int(f.all_reduce(torch.tensor(f.global_rank + 1), reduce_op='sum'))); devices.leave('')"
    assert [task[:2] for task in srun(code, SLURM_JOB_NAME=name)] == [(0, "2 3\n")] * 2


def test_processes_leave_together():
    """Others have nothing to do while the first one measures what was trained."""
    code = "time.sleep(2 * (1 - f.global_rank)); print(time.time()); devices.leave('vae'); print(time.time())"
    (_, first, _), (_, other, _) = srun(code)
    assert float(other.split()[1]) >= float(first.split()[0])


def test_a_process_that_waits_to_leave_says_that_another_has_died():
    dies = "f.barrier(); f.global_rank or (time.sleep(1), os._exit(9)); "  # once both are there
    first, (status, _, said) = srun(dies + "run_cli(lambda: devices.leave('vae'))")
    assert (first[0], status) == (9, 2)
    assert "lost another one, while fitting vae; run the same" in said and "Traceback" not in said


def test_tasks_of_srun_meet_on_the_first_node_and_steps_do_not_meet_each_other(monkeypatch):
    environment(monkeypatch, SLURM_STEP_NODELIST="gpu[12-15,17]", SLURM_JOB_ID="8123456", SLURM_STEP_ID="0")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert (Launched().main_address, Launched().main_port) == ("gpu12", 18456)
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert Launched().main_port == 18457


def test_a_process_takes_the_device_that_its_launcher_numbered(monkeypatch):
    environment(monkeypatch, WORLD_SIZE="4", RANK="1", LOCAL_WORLD_SIZE="2", LOCAL_RANK="0")  # ranks dealt out in turn
    assert processes.local_rank() == 0
    environment(monkeypatch, WORLD_SIZE="4", RANK="3", LOCAL_WORLD_SIZE="2")
    assert processes.local_rank() == 1
    slurm = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    environment(monkeypatch, **slurm)
    assert processes.local_rank() == 0
    environment(monkeypatch)
    assert processes.local_rank() == 0


def test_shares_of_a_draw_are_its_rows():
    for draw in ("normal", "uniform"):
        whole = getattr(WHOLE, draw)((6, 3), torch.Generator().manual_seed(0))
        parts = [getattr(Share(i, 3), draw)((2, 3), torch.Generator().manual_seed(0)) for i in range(3)]
        assert torch.equal(torch.cat(parts), whole)
    shape, g = (2, 6, 5), torch.Generator().manual_seed(0)
    flat = torch.randint(0, 1000, (60,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(WHOLE.integers(0, 1000, shape, g, dim=1).flatten(), flat)  # as if drawn without axes
    parts = [Share(i, 2).integers(0, 1000, (2, 3, 5), torch.Generator().manual_seed(0), dim=1) for i in range(2)]
    assert torch.equal(torch.cat(parts, 1).flatten(), flat)


def environment(monkeypatch, **variables):
    names = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS")
    for name in (*names, "SLURM_STEP_NUM_NODES", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_who_one_is_under_torchrun_and_slurm(monkeypatch):
    environment(monkeypatch)
    assert (processes.count(), processes.rank(), processes.per_node(), processes.first()) == (1, 0, 1, True)
    torchrun = {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}
    environment(monkeypatch, **torchrun)
    assert (processes.count(), processes.rank(), processes.per_node(), processes.first()) == (8, 5, 4, False)
    slurm = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "9"}
    environment(monkeypatch, **slurm)
    assert (processes.count(), processes.rank(), processes.per_node()) == (16, 9, 8)
    environment(monkeypatch, **{**slurm, "SLURM_STEP_NUM_TASKS": "1"}, **torchrun)  # torchrun inside a job
    assert (processes.count(), processes.rank()) == (8, 5)
    environment(monkeypatch, SLURM_NTASKS="4", SLURM_PROCID="0")  # a batch script, alone
    assert processes.count() == 1


def test_a_batch_falls_into_equal_pieces(monkeypatch):
    environment(monkeypatch)
    assert [share_work(32, most) for most in (None, 32, 31, 8, 7, 1)] == [1, 1, 2, 4, 8, 32]
    environment(monkeypatch, WORLD_SIZE="8", RANK="0")
    assert [share_work(32, most) for most in (None, 2)] == [1, 2]
    with pytest.raises(UserError, match="32 does not fall into equal parts for 5"):
        environment(monkeypatch, WORLD_SIZE="5", RANK="0")
        share_work(32, None)


def test_the_most_processes_that_divide_the_batch_take_part():
    assert [idle.working(n, [32]) for n in (1, 3, 6, 7, 8, 33)] == [1, 2, 4, 4, 8, 32]
    assert [idle.working(n, [32], nodes=2) for n in (3, 8, 12)] == [2, 8, 8]
    assert idle.working(6, [32, 24]) == 4 and idle.working(6, []) == 6
    assert idle.working(4, [32], nodes=3) == 0


def test_the_others_stay_idle_and_the_rest_count_themselves_anew(monkeypatch, capsys):
    takes = []
    for rank in range(6):  # two nodes of three
        environment(monkeypatch, WORLD_SIZE="6", RANK=str(rank), LOCAL_WORLD_SIZE="3", TORCHELASTIC_RUN_ID="x")
        if idle.take_part([32]):
            takes.append((rank, processes.rank(), processes.count(), processes.per_node()))
    assert takes == [(0, 0, 4, 2), (1, 1, 4, 2), (3, 2, 4, 2), (4, 3, 4, 2)]
    sentence = "a batch of 32 does not fall into equal parts for 6 processes: 4 train and 2 stay idle\n"
    assert capsys.readouterr().err == sentence
    slurm = {"SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "3", "SLURM_NTASKS_PER_NODE": "3", "SLURM_PROCID": "1"}
    environment(monkeypatch, **slurm)
    assert idle.take_part([32]) and os.environ["SLURM_NTASKS"] == os.environ["SLURM_NTASKS_PER_NODE"] == "2"
    assert (processes.count(), processes.rank(), processes.per_node()) == (2, 1, 2)


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_what_has_no_batch_is_fitted_by_the_first_process_of_all_alone(monkeypatch, rank):
    environment(monkeypatch, WORLD_SIZE="6", RANK=str(rank), LOCAL_WORLD_SIZE="3", TORCHELASTIC_RUN_ID="x")
    assert idle.take_part([]) == (rank == 0)
    assert processes.count() == 1


def test_a_stage_is_fitted_by_two_of_three_processes(prepared, tmp_path):
    command = ["-m", "methods", "fit", "--method", "mar3d", "--variant", "full", "--stage", "vae", "--scale", "smoke"]
    command += ["--dataset", "procedural", "--seed", "0", "--prepared", str(prepared), "--runs", str(tmp_path)]
    done = torchrun(*command, count=3)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "for 3 processes: 2 train and 1 stay idle" in done.stderr
    (folder,) = (path.parent for path in tmp_path.rglob("manifest.json"))
    assert (read_stage(folder)["status"], read_stage(folder)["processes"]) == ("ok", 2)


def test_the_command_line_starts_as_many_processes_as_divide_the_batch(prepared, tmp_path):
    command = [sys.executable, "-m", "methods", "fit", "--method", "mar3d", "--variant", "full", "--stage", "vae"]
    command += ["--scale", "smoke", "--dataset", "procedural", "--seed", "0", "--processes", "3"]
    command += ["--prepared", str(prepared), "--runs", str(tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (path.parent for path in tmp_path.rglob("manifest.json"))
    manifest = read_stage(folder)
    assert (manifest["status"], manifest["processes"], manifest["resumes"]) == ("ok", 2, 0)
    assert (sorted(manifest["files"]), manifest["caches"]) == (["weights.safetensors"], ["latents.safetensors"])
    assert (folder / "latents.safetensors").exists()
    assert len(list((folder / "tensorboard").iterdir())) == 1  # one process writes


def test_a_failed_stage_is_a_fact_of_the_next_one_for_two_processes_too(prepared, tmp_path):
    data = PreparedData(prepared, "procedural", "smoke")
    run.fit("mar3d", "full", "vae", data, seed=0, runs=tmp_path, threads=1, killed="killed twice")
    command = ["-m", "methods", "fit", "--method", "mar3d", "--variant", "full", "--stage", "mar_lr"]
    command += ["--scale", "smoke", "--dataset", "procedural", "--seed", "0"]
    done = torchrun(*command, "--prepared", str(prepared), "--runs", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    (manifest,) = (read_stage(path.parent) for path in tmp_path.rglob("mar3d.mar_lr-*/*/manifest.json"))
    assert (manifest["status"], manifest["reason"]) == ("failed", "stage vae failed (fitting vae: killed twice)")


def test_a_process_that_hangs_between_steps_is_not_waited_for_as_long_as_at_the_start(tmp_path):
    done = torchrun(SCRIPT.with_name("hung_process.py"))
    assert done.returncode != 0
    assert "process 1 of 2 was stopped, or lost another one, while fitting vae" in done.stderr
    waited = float(done.stdout.split("gave up after ")[1].split()[0])
    assert 1 < waited < 20


DIES = """
import os, signal, sys, time
if os.environ["RANK"] == "1":
    os.kill(os.getpid(), int(sys.argv[1])) if int(sys.argv[1]) else sys.exit(2)
time.sleep(60)
"""


@pytest.mark.parametrize("number, status", [(signal.SIGKILL, 137), (signal.SIGSEGV, 139), (0, 2)])
def test_a_launcher_ends_as_the_process_that_died(tmp_path, number, status):
    (tmp_path / "dies.py").write_text(DIES)
    code = "from core.errors import run_cli; from methods.training.launcher import start_processes\n"
    code += f"run_cli(lambda: start_processes(2, ['dies', '{int(number)}']))"
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == status
    assert "error: the training of 2 processes ended early" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_launcher_that_is_told_to_stop_stops_its_processes(tmp_path):
    (tmp_path / "waits.py").write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path)!r}, 'pid' + os.environ['RANK']).write_text(str(os.getpid()))\ntime.sleep(60)"
    )
    code = "from methods.training.launcher import start_processes; start_processes(2, ['waits'])"
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    launcher = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 50
    while not all((tmp_path / f"pid{rank}").exists() for rank in range(2)) and time.monotonic() < end:
        time.sleep(0.05)
    launcher.terminate()
    assert launcher.wait(50) == 128 + signal.SIGTERM
    for rank in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid{rank}").read_text()), 0)


@pytest.mark.parametrize(
    "codes, status", [((2, -9), 137), ((-15, 2), 0), ((137, -15), 137), ((2, 2), 0), ((-11,), 139)]
)
def test_the_death_that_ended_the_others_is_found(codes, status):
    assert death_among(codes) == status
