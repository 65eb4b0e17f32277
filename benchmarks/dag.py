"""Planning the workflow: seconds of a dry run, jobs, and what starting Python costs a job that needs no torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.growth import Curve
from benchmarks.measure import Spread, interleaved, spread
from benchmarks.options import Options
from benchmarks.result import Outcome, Row, Target
from core.errors import UserError
from core.identity import ROOT
from methods.registry import load_methods

SUMMARY = "planning the workflow (`snakemake -n`), and starting Python for a job"
DATASETS = ("procedural", "second")
STARTS = {
    "python, nothing imported": "pass",
    "reports: Table 2": "import reports.__main__, reports.table2, reports.markdown",
    "data: a shard": "import data.__main__, data.objects, data.store",
    "evaluation: a row": "import evaluation.__main__, evaluation.rows, evaluation.score",
    "pipeline: the whole DAG": "import pipeline.dag, pipeline.config",
}
"""What a job of each room imports before it works; none of them may import torch."""


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    settings, seeds = (3, 1) if options.quick else (20, 5)
    rows = [_plans(settings, seeds, options), _objects(options), *_starts(options)]
    return Outcome("dag", tuple(rows), growth(options), (
        "A run has one dataset, so two datasets are two dry runs, one after the other; nothing has been made before, so"
        " every job is planned. Methods are variants of the methods here: each is a row of its own in the DAG.",
    ))  # fmt: skip


def variants(count: int) -> list[str]:
    """The first `count` settings method/variant that are no controls."""
    methods = [m for m in load_methods().values() if m.kind == "method"]
    found = [f"{m.name}/{variant}" for m in sorted(methods, key=lambda m: m.name != "mar3d") for variant in m.variants]
    if len(found) < count:
        raise UserError(f"there are {len(found)} settings, the benchmark plans {count}: lower it in benchmarks/dag.py")
    return found[:count]


def config_of(settings: int, seeds: int, dataset: str, objects: int = 6000) -> dict[str, Any]:
    """The configuration of a run of that many settings and seeds, of procedural objects."""
    counts = {"train": objects, "val": 64, "test": 64}
    source = {"source": "procedural", "counts": counts, "families": ["chair", "mug"]}
    return {
        "scale": "cpu",
        "dataset": dataset,
        "datasets": {"procedural": {"counts": counts}} if dataset == "procedural" else {dataset: source},
        "seeds": list(range(seeds)),
        "table2": {"settings": variants(settings), "controls": []},
    }


def dry_run(config: Mapping[str, Any]) -> dict[str, int]:
    """Plan it in an empty folder, in a process as a user starts it: the number of jobs by rule, and `total`."""
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.yaml"
        given.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        line = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--dry-run",
                "--quiet", "rules", "--cores", "2", "--workflow-profile", str(ROOT / "profiles" / "default"),
                "--configfile", str(given), "--", "reports/table2.csv"]  # fmt: skip
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")}
        done = subprocess.run(line, cwd=folder, env=kept, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the dry run failed: {(done.stdout + done.stderr)[-500:]}")
    return job_counts(done.stdout + done.stderr)


def job_counts(text: str) -> dict[str, int]:
    """Snakemake's table of job counts, as a mapping; RuntimeError where it is not in the text."""
    _, found, table = text.partition("Job stats:")
    lines = re.findall(r"^(\w+)\s+(\d+)\s*$", table, re.MULTILINE)
    counts = {name: int(number) for name, number in lines}
    if not found or "total" not in counts:
        raise RuntimeError("Snakemake printed no table of job counts")
    end = list(counts).index("total") + 1  # Snakemake may print the table twice
    return dict(list(counts.items())[:end])


def _plans(settings: int, seeds: int, options: Options) -> Row:
    configs = [config_of(settings, seeds, dataset) for dataset in DATASETS]
    jobs: list[dict[str, int]] = []

    def both() -> None:
        jobs[:] = [dry_run(config) for config in configs]

    taken = interleaved({"both": both}, rounds=1 if options.quick else 3, warm_up=0 if options.quick else 1)["both"]
    total = sum(counts["total"] for counts in jobs)
    seconds = spread(taken)
    return Row(
        f"`snakemake -n`, {settings} methods x {seeds} seeds x {len(DATASETS)} datasets",
        "s",
        seconds,
        limit=f"{total} jobs, {1e3 * seconds.median / total:.1f} ms a job",
        targets=(Target("seconds", 5.0, seconds.median, "at most", "s"),),
    )


def _objects(options: Options) -> Row:
    """Jobs at two numbers of objects: only shards, of a fixed number of objects, may become more."""
    few, many = (dry_run(config_of(2, 1, DATASETS[0], objects)) for objects in (1000, 5000))
    shards = [counts.pop("prepare", 0) for counts in (few, many)]
    others = [sum(v for k, v in counts.items() if k != "total") for counts in (few, many)]
    return Row(
        "jobs at 1000 and 5000 objects",
        "jobs",
        Spread(others[1], others[1], others[1], 1),
        limit=f"without shards {others[0]} and {others[1]}; shards, of a fixed size, {shards[0]} and {shards[1]}",
        targets=(Target("jobs that became more, shards apart", 0.0, float(others[1] - others[0]), "at most"),),
    )


def start(code: str) -> bool:
    """Run a line in a new Python; returns whether it imported torch."""
    line = f"{code}; import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def _starts(options: Options) -> list[Row]:
    calls = {name: (lambda code=code: start(code)) for name, code in STARTS.items()}
    taken = interleaved(calls, rounds=1 if options.quick else 7, seconds=60)
    rows = []
    for name, call in calls.items():
        seconds, torch = spread(taken[name]), call()
        rows.append(
            Row(
                f"Python started: {name}",
                "s",
                seconds,
                limit="imports torch" if torch else "torch is not imported",
                targets=(Target("seconds", 1.5, seconds.median, "at most", "s"),) if name != next(iter(STARTS)) else (),
            )
        )
    return rows


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds of a dry run against settings times seeds; Python and Snakemake start in each."""
    counts: Sequence[tuple[int, int]] = [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]
    if not options.quick:
        counts = [(5, 1), (10, 1), (10, 2), (20, 2), (20, 4)]
    configs = {s * n: config_of(s, n, DATASETS[0], 500) for s, n in counts}
    calls = {size: (lambda config=config: dry_run(config)) for size, config in configs.items()}
    taken = interleaved(calls, rounds=1 if options.quick else 3, warm_up=0)
    sizes = tuple(configs)
    costs = tuple(spread(taken[size]) for size in sizes)
    return (Curve("`snakemake -n`", "settings x seeds", "s", sizes, costs, 1.0, "a job is planned by itself"),)
