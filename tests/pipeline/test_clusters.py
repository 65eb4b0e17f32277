"""The profiles for clusters: they plan without one, ask the scheduler for the right things, and a job runs through."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from core.identity import ROOT
from methods import registry
from pipeline import config, needs
from pipeline.dag import Dag
from tests.pipeline import bucket_server, slurm

GIVEN = {"scale": "smoke", "shard_size": 2, "datasets": {"procedural": {"counts": {"train": 2, "val": 2, "test": 2}}}}
TINY = ["scale=smoke", "shard_size=2", "datasets={procedural: {counts: {train: 2, val: 2, test: 2}}}"]


def dag():
    return Dag(config.load(GIVEN))


def command(profile, *arguments, path=None):
    """The command line, and an environment in which `path` comes first."""
    line = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile"]
    line += ["--workflow-profile", f"{ROOT}/profiles/{profile}", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SNAKEMAKE", "SLURM"))}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    return line, environment


def snakemake(folder, profile, *arguments, path=None):
    line, environment = command(profile, *arguments, path=path)
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_what_is_asked_for_grows_when_memory_was_short():
    mem_mb = needs.memory("fit", "paper")
    assert mem_mb(None, 2) == 2 * mem_mb(None, 1)
    assert set(needs.NEEDS) == {"prepare", "fit", "generate", "score"}
    assert all(set(scales) == {"smoke", "cpu", "gpu", "paper"} for scales in needs.NEEDS.values())


@pytest.mark.parametrize("scale", ["gpu", "paper"])
def test_a_training_may_take_half_as_long_again_as_the_plan_foresees(scale):
    section = (ROOT / "docs/plan.md").read_text().split(f"\n## Scale `{scale}`\n")[1].split("\n## ")[0]
    (table,) = (part for part in section.split("\n\n") if part.startswith("|") and "GPU-hours" in part)
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    hours = [float(row[rows[0].index("GPU-hours")]) for row in rows[2:]]
    assert len(hours) > 4 and max(hours) * 1.5 <= needs.minutes("fit", scale) / 60


@pytest.mark.parametrize("name, cores", [("slurm", []), ("multi_gpu", ["--cores", "2"])])
def test_the_whole_table_is_planned_on_a_machine_without_the_cluster_or_the_cards(tmp_path, name, cores):
    process = snakemake(tmp_path, name, *cores, "-n", "--config", "scale=gpu", "--", "reports/table2.csv")
    assert process.returncode == 0, process.stdout + process.stderr
    assert f"profiles/{name} for setting default" in process.stderr
    assert re.search(r"^fit +11$", process.stdout, re.MULTILINE)


@pytest.fixture
def cluster(tmp_path):
    slurm.install(tmp_path / "bin", tmp_path / "slurm")
    (tmp_path / "work").mkdir()
    return tmp_path


FAST = ["--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]


def test_a_training_asks_for_a_gpu_memory_time_and_cpus_and_a_control_for_no_gpu(cluster):
    names = dag()
    (cluster / "slurm/fail").touch()
    for path in [*names.shards(None), f"{names.prepared}/manifest.json"]:  # there, so that only the trainings are left
        place = cluster / "work" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    stages = [next(n for n in names.stages if n.startswith(prefix)) for prefix in ("mar3d.vae-", "mean_shape.")]
    targets = [f"{names.root}/stages/{stage}/seed0/manifest.json" for stage in stages]
    line, environment = command("slurm", *FAST, "--config", *TINY, "--", *targets, path=cluster / "bin")
    with (cluster / "log").open("w") as log:
        process = subprocess.Popen(line, cwd=cluster / "work", env=environment, stdout=log, stderr=log)
        give_up = time.monotonic() + 120
        while len(slurm.submitted(cluster / "slurm")) < 2 and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.1)
        process.terminate()  # the jobs fail, and are tried again after a while: what was asked for is known
        process.wait()
    jobs = slurm.submitted(cluster / "slurm")
    assert [job["rule"] for job in jobs] == ["fit", "fit"], (cluster / "log").read_text()
    assert sorted(job.get("--gpus", "0") for job in jobs) == ["0", "1"]
    mb, minutes = needs.NEEDS["fit"]["smoke"]
    for job in jobs:
        asked = [job[name] for name in ("--mem", "-t", "--cpus-per-task", "-p")]
        assert asked == [str(mb), str(minutes), "8", "main"]
        assert "--requeue" in job


def test_a_shard_is_prepared_by_a_job_of_the_cluster(cluster):
    shard = dag().test_shards(None)[0]
    process = snakemake(cluster / "work", "slurm", *FAST, "--config", *TINY, "--", shard, path=cluster / "bin")
    assert process.returncode == 0, process.stdout + process.stderr
    assert (cluster / "work" / shard).stat().st_size > 0
    (job,) = slurm.submitted(cluster / "slurm")
    mb, minutes = needs.NEEDS["prepare"]["smoke"]
    assert (job["rule"], job["--mem"], job["-t"], job["--cpus-per-task"]) == ("prepare", str(mb), str(minutes), "1")
    assert "--gpus" not in job


def test_a_fit_on_several_nodes_is_refused_before_anything_is_submitted(tmp_path):
    several = ["--set-resources", "fit:nodes=2"]
    process = snakemake(tmp_path, "slurm", *several, "-n", "--config", *TINY, "--", "reports/table2.csv")
    assert process.returncode != 0 and "asks for 2 nodes for a fit" in process.stdout + process.stderr


# ---------------------------------------------------------------- Kubernetes


def profile(name):
    return yaml.safe_load(Path(ROOT / "profiles" / name / "profile.yaml").read_text())


def pod_of(rule):
    """The container that the executor plugin would ask Kubernetes for, for a job of this rule under the profile."""
    from types import SimpleNamespace
    from unittest.mock import MagicMock

    from snakemake_executor_plugin_kubernetes import Executor

    asked = dict(profile("kubernetes")["set-resources"][rule])
    if "gpu" in asked:
        wildcards = SimpleNamespace(stage="mar3d.vae-0123456789", method="mar3d")
        asked["gpu"] = eval(str(asked["gpu"]), {"wildcards": wildcards})
    if rule == "score":
        asked.setdefault("gpu", 0)  # as evaluation/rules.smk asks where Snakemake itself sees no GPU
    asked |= {"mem_mb": needs.memory(rule, "gpu")(None, 1), "_cores": 8}
    executor = MagicMock(persistent_volumes=[], secret_envvars={}, k8s_cpu_scalar=0.95, run_namespace="x")
    executor.container_image, executor.namespace, executor.k8s_service_account_name = "image", "default", None
    executor._kubernetes_retry.side_effect = lambda call: call()
    executor.format_job_exec.return_value = "true"
    job = SimpleNamespace(resources=asked, jobid=1, attempt=1, is_containerized=False)
    Executor.run_job(executor, job)
    body = executor.batchapi.create_namespaced_job.call_args.args[1]
    return body.spec.template.spec.containers[0]


@pytest.mark.parametrize("rule", ["fit", "generate"])
def test_a_pod_that_trains_or_generates_has_a_gpu_as_limit(rule):
    resources = pod_of(rule).resources
    assert resources.limits["nvidia.com/gpu"] == "1"
    assert resources.limits["memory"] == f"{needs.NEEDS[rule]['gpu'][0]}M"


@pytest.mark.parametrize("rule", ["prepare", "score"])
def test_a_pod_that_needs_no_gpu_gets_none(rule):
    assert pod_of(rule).resources.limits.get("nvidia.com/gpu", "0") == "0"


def test_the_one_pod_has_memory_for_a_fit_on_each_of_its_cards_and_may_run_where_cards_are():
    parts = yaml.safe_load_all((ROOT / "profiles/kubernetes/job.yaml").read_text())
    job = next(part for part in parts if part["kind"] == "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = dict(re.findall(r"(gpu|mem_mb)=(\d+)", container["args"][0]))
    fit, _ = needs.NEEDS["fit"]["gpu"]
    assert int(given["mem_mb"]) >= int(given["gpu"]) * fit
    limits = container["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == int(given["gpu"])
    assert int(limits["memory"].removesuffix("Gi")) * 2**30 >= int(given["mem_mb"]) * 10**6
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]


def test_the_whole_table_is_planned_for_kubernetes_with_a_bucket(tmp_path):
    with bucket_server.serve() as bucket:
        options = ["--storage-s3-endpoint-url", bucket.url, "--storage-s3-retries", "1"]
        options += ["--storage-s3-access-key", "a", "--storage-s3-secret-key", "b"]
        options += ["--local-storage-prefix", str(tmp_path / "volume")]
        line = [*options, "-n", "--config", "scale=smoke", "--", "reports/table2.csv"]
        process = snakemake(tmp_path, "kubernetes", *line)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "s3://my-bucket/mesh-benchmark/runs/procedural/smoke/" in process.stdout + process.stderr


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_profile_names_rules_that_there_are_and_methods_that_need_no_gpu(name):
    chosen = profile(name)
    assert set(chosen["set-threads"]) | set(chosen["set-resources"]) <= set(needs.NEEDS)
    for rule, kind in (("fit", "stage"), ("generate", "method")):
        named = set(re.findall(r"'(\w+)'", chosen["set-resources"][rule]["gpu"].split(" in ")[1]))
        assert named <= {m.name for m in registry.load_methods().values() if m.resources.get("gpu") == 0}, kind


def test_what_asks_for_no_gpu_runs_on_none():
    for method in registry.load_methods().values():
        if method.resources.get("gpu") == 0:
            sources = "".join(path.read_text() for path in method.folder.glob("*.py"))
            assert "import torch" not in re.sub(r'"""(.|\n)*?"""', "", sources)
