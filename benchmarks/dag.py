"""Planning the workflow: seconds of a dry run, jobs, and what starting Python costs a job that needs no torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
PYTHON = "python, nothing imported"
STARTS = {
    PYTHON: "pass",
    "reports: Table 2": "import reports.__main__, reports.table2, reports.markdown",
    "data: a shard": "import data.__main__, data.objects, data.store",
    "evaluation: a row": "import evaluation.__main__, evaluation.rows, evaluation.score",
    "pipeline: the whole DAG": "import pipeline.dag, pipeline.config",
}
"""What a job of each room imports before it works; none of them may import torch."""
NOTHING = "rule nothing:\n    output: 'nothing'\n    shell: 'touch {output}'\n"
"""A Snakefile with nothing to plan: what is left is Snakemake's own start."""
LEAST_SECONDS = 1e-3
"""Of planning, after the start is taken off, so that noise in a tiny plan leaves it a logarithm."""
TRIED = "docs/log.md, `where a dry run spends its seconds`"
IMPORTS = dict.fromkeys(
    ("reports: Table 2", "evaluation: a row"),
    "What is left is pandas, pyarrow and SciPy; trimesh waits for a mesh file: docs/log.md, `trees of pykdtree`.",
)
"""What was tried with a start, by its name."""


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

    options = ("--workflow-profile", str(ROOT / "profiles" / "default"), "--configfile", "given.yaml")
    given = yaml.safe_dump(dict(config))
    return job_counts(_snakemake(ROOT / "Snakefile", *options, "--", "reports/table2.csv", config=given))


def start_alone() -> None:
    """Start Snakemake as `dry_run` does, with nothing to plan."""
    _snakemake(Path("Nothing"))


def _snakemake(snakefile: Path, *options: str, config: str = "") -> str:
    """What a dry run in an empty folder prints; RuntimeError where it fails."""
    line = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--dry-run", "--quiet", "rules"]
    line += ["--cores", "2", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "given.yaml").write_text(config, encoding="utf-8")
        (Path(folder) / "Nothing").write_text(NOTHING, encoding="utf-8")
        done = subprocess.run(line, cwd=folder, env=kept, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the dry run failed: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout + done.stderr


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

    calls = {"both": both, "starts": lambda: [start_alone() for _ in configs]}
    start_alone()  # the files of Python and Snakemake are read by now
    taken = interleaved(calls, rounds=1 if options.quick else 3, warm_up=0)
    total = sum(counts["total"] for counts in jobs)
    seconds = spread(taken["both"])
    starts = spread([alone / both for alone, both in zip(taken["starts"], taken["both"], strict=True)]).median
    return Row(
        f"`snakemake -n`, {settings} methods x {seeds} seeds x {len(DATASETS)} datasets",
        "s",
        seconds,
        limit=f"{starts:.0%} is Snakemake's start with nothing to plan, {len(configs)} times; the rest is"
        f" {1e3 * (1 - starts) * seconds.median / total:.1f} ms for each of {total} jobs",
        targets=(Target("time", 5.0, seconds.median, "at most", "s"),),
        tried=TRIED,
    )


def _objects(options: Options) -> Row:
    """Jobs at two numbers of objects: only shards, of a fixed number of objects, may become more."""
    few, many = (dry_run(config_of(2, 1, DATASETS[0], objects)) for objects in (1000, 5000))
    shards = [counts.pop("prepare", 0) for counts in (few, many)]
    others = [sum(v for k, v in counts.items() if k != "total") for counts in (few, many)]
    return Row(
        "jobs at 1000 and 5000 objects",
        "jobs",
        spread([float(others[1])]),
        limit=f"without shards {others[0]} and {others[1]}; shards, of a fixed size, {shards[0]} and {shards[1]}",
        targets=(Target("jobs that more objects add, shards apart", 0.0, float(others[1] - others[0]), "at most"),),
    )


def start(code: str) -> bool:
    """Run a line in a new Python; returns whether it imported torch."""
    line = f"{code}; import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def _starts(options: Options) -> list[Row]:
    calls = {name: (lambda code=code: start(code)) for name, code in STARTS.items()}
    taken = interleaved(calls, rounds=1 if options.quick else 5, seconds=60)
    bare = spread(taken[PYTHON]).median
    return [_start_row(name, spread(taken[name]), call(), bare) for name, call in calls.items()]


def _start_row(name: str, seconds: Spread, torch: bool, bare: float) -> Row:
    if name == PYTHON:
        return Row(f"Python started: {name}", "s", seconds)
    time = Target("time", 1.5, seconds.median, "at most", "s")
    targets = (time, Target("imports of torch", 0.0, float(torch), "at most"))
    limit = f"{bare / seconds.median:.0%} is Python's own start"
    return Row(f"Python started: {name}", "s", seconds, limit=limit, targets=targets, tried=IMPORTS.get(name, ""))


def growth(options: Options) -> tuple[Curve, ...]:
    """Seconds of a dry run against settings times seeds, without Snakemake's start, which would hide how they grow."""
    settings = 3 if options.quick else 20
    configs = {settings * seeds: config_of(settings, seeds, DATASETS[0], 500) for seeds in (1, 2, 4, 8, 16)}
    calls: dict[Any, Callable[[], Any]] = {size: partial(dry_run, config) for size, config in configs.items()}
    taken = interleaved(calls | {"start": start_alone}, rounds=1 if options.quick else 3, warm_up=0)
    costs = tuple(spread(planning(taken[size], taken["start"])) for size in configs)
    why = "a job is planned by itself"
    return (Curve("`snakemake -n`, without its start", "settings x seeds", "s", tuple(configs), costs, 1.0, why),)


def planning(taken: Sequence[float], starts: Sequence[float]) -> list[float]:
    """Seconds without those of the start of the same round."""
    return [max(whole - start, LEAST_SECONDS) for whole, start in zip(taken, starts, strict=True)]
