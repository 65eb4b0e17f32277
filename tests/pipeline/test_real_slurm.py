"""The SLURM profile against a real controller on this machine, without GPUs. Opt-in: it starts two daemons.

    SLURM_BIN=/usr/sbin:/usr/bin python -m pytest tests/pipeline/test_real_slurm.py

SLURM_BIN: where slurmctld, slurmd, slurmstepd and the commands are (Debian: slurmctld, slurmd, slurm-client). The
daemons run as this user, without munge, and need nothing configured. SLURM_PLUGINS: their plugins, if elsewhere.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from core.identity import ROOT
from pipeline import config, needs
from pipeline.dag import Dag

BIN = os.environ.get("SLURM_BIN")
pytestmark = pytest.mark.skipif(not BIN, reason="opt-in: SLURM_BIN does not say where SLURM is")
SETTINGS = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
SlurmctldPort={controller}
SlurmdPort={node}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
MpiDefault=none
MinJobAge=300
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=32000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def environment(tmp_path):
    """The environment in which SLURM's commands talk to a controller of this test's own."""
    variables = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "SLURM_CONF": str(tmp_path / "slurm.conf")}
    names = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "folder": tmp_path}
    names |= {"controller": free_port(), "node": free_port()}
    for name in ("state", "spool", "work"):
        (tmp_path / name).mkdir()
    text = SETTINGS.format(**names)
    if "SLURM_PLUGINS" in os.environ:
        text += f"PluginDir={os.environ['SLURM_PLUGINS']}\n"
    (tmp_path / "slurm.conf").write_text(text)
    stepd = shutil.which("slurmstepd", path=variables["PATH"])
    (tmp_path / "bin").mkdir()  # the executor takes SLURM_CONF from the environment of `srun`
    srun = tmp_path / "bin/srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={tmp_path}/slurm.conf exec {shutil.which("srun", path=BIN)} "$@"\n')
    srun.chmod(0o755)
    variables["PATH"] = f"{srun.parent}:{variables['PATH']}"
    daemons = []
    for line in (["slurmctld", "-D"], ["slurmd", "-D", "-N", names["host"], *(["-d", stepd] if stepd else [])]):
        log = (tmp_path / f"{line[0]}.out").open("w")
        daemons.append(subprocess.Popen(line, env=variables, stdout=log, stderr=log))
        log.close()
    give_up = time.monotonic() + 30
    while "idle" not in subprocess.run(["sinfo"], env=variables, capture_output=True, text=True).stdout:
        logs = "".join((tmp_path / f"{name}.out").read_text() for name in ("slurmctld", "slurmd"))
        assert time.monotonic() < give_up, logs
        time.sleep(0.5)
    yield variables
    for daemon in daemons:
        daemon.terminate()
        daemon.wait()


def test_a_method_is_trained_and_generates_through_a_real_controller(environment, tmp_path):
    counts = {"train": 2, "val": 2, "test": 2}
    dag = Dag(config.load({"scale": "smoke", "shard_size": 2, "datasets": {"procedural": {"counts": counts}}}))
    target = f"{dag.root}/generated/template/full/seed0/generate.jsonl"
    line = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile"]
    line += ["--workflow-profile", f"{ROOT}/profiles/slurm", "--slurm-init-seconds-before-status-checks", "2"]
    line += ["--slurm-status-command", "squeue"]  # there is no accounting
    line += ["--config", "scale=smoke", "shard_size=2", f"datasets={{procedural: {{counts: {counts}}}}}"]
    line += ["--", target]
    process = subprocess.run(line, cwd=tmp_path / "work", env=environment, capture_output=True, text=True, timeout=400)
    assert process.returncode == 0, process.stdout + process.stderr
    assert (tmp_path / "work" / target).stat().st_size > 0
    asked = ["squeue", "--states=all", "--noheader", "--format=%k|%T|%m|%l|%C"]
    jobs = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = {row.split("|")[0].split("_wildcards_")[0]: row.split("|")[1:] for row in jobs}
    assert len(jobs) == 5 and set(rows) == {"rule_prepare", "rule_fit", "rule_generate"}
    for rule, cpus in (("prepare", "1"), ("fit", "8"), ("generate", "4")):
        mb, minutes = needs.NEEDS[rule]["smoke"]
        assert rows[f"rule_{rule}"][:4] == ["COMPLETED", f"{mb}M", f"{minutes}:00", cpus]
