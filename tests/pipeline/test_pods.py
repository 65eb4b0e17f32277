"""The Kubernetes profile for real, but for the cluster: a pod for each job, a bucket and a volume between them.

Opt-in, since each pod parses the workflow anew:  PODS=yes python -m pytest tests/pipeline/test_pods.py
"""

import csv
import os
import shutil
import subprocess
import sys

import pytest

from core.identity import ROOT
from tests.pipeline import bucket_server, kubernetes_server

pytestmark = pytest.mark.skipif("PODS" not in os.environ, reason="opt-in: PODS is not set")

ROOMS = ("core", "data", "methods", "evaluation", "pipeline", "reports", "config", "profiles")
CONFIG = ["scale=smoke", "shard_size=4", "datasets={procedural: {counts: {train: 4, val: 2, test: 2}}}"]
CONFIG += ["table2={settings: [mean_shape/full], controls: []}"]


@pytest.fixture
def checkout(tmp_path):
    """What git knows of it is what pods get."""
    root = tmp_path / "checkout"
    for name in ROOMS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "recorded", "*.md"))
    for name in ("Snakefile", ".gitignore"):
        shutil.copy(ROOT / name, root)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", str(root), *command], check=True, capture_output=True)
    return root


def snakemake(checkout, bucket, cluster, volume, *arguments):
    line = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/kubernetes"]
    line += ["--kubernetes-persistent-volumes", f"mesh-benchmark:{volume}"]
    line += ["--local-storage-prefix", str(volume), "--remote-job-local-storage-prefix", str(volume)]
    line += ["--jobs", "2", "--seconds-between-status-checks", "1"]
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("SNAKEMAKE", "KUBE"))}
    keep |= {"KUBECONFIG": str(cluster.kubeconfig), "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(checkout)}
    names = {"ENDPOINT_URL": bucket.url, "ACCESS_KEY": "a", "SECRET_KEY": "b"}
    keep |= {f"SNAKEMAKE_STORAGE_S3_{name}": value for name, value in names.items()}
    line += ["--config", *CONFIG, "--", *arguments]
    done = subprocess.run(line, cwd=checkout, env=keep, capture_output=True, text=True, timeout=900)
    printed = "".join(path.read_text() for path in sorted(cluster.folder.glob("*.log")))
    assert done.returncode == 0, printed + done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_table_comes_out_of_pods_that_share_a_bucket_and_a_volume(checkout, tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir()
    with bucket_server.serve() as bucket, kubernetes_server.serve(tmp_path / "cluster") as cluster:
        snakemake(checkout, bucket, cluster, volume, "reports/table2.csv")
        rules = [job["args"][1].split("--target-jobs")[1].split("'")[1].split(":")[0] for job in cluster.jobs]
        assert sorted(rules) == ["fit", "generate", "prepare", "prepare", "prepare", "score"]
        assert "Nothing to be done" in snakemake(checkout, bucket, cluster, volume, "reports/table2.csv")
    with (checkout / "reports/table2.csv").open(newline="") as file:
        assert [(row["method"], row["status"], row["n_objects"]) for row in csv.DictReader(file)] == [
            ("mean_shape", "ok", "2")
        ]
    assert "mesh-benchmark/reports/table2.csv" in bucket.objects
    declared = {name.rsplit("/", 1)[1] for name in bucket.objects}
    beside = {path.name for path in volume.rglob("runs/**/*") if path.is_file()} - declared
    assert {"weights.safetensors", "done.json"} <= beside and not {"generate.jsonl", "seed0.parquet"} & beside
