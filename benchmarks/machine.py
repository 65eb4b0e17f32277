"""Where something was measured: processor, cores, load, versions; and whether the machine had other things to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.identity import ROOT, source_hash
from methods.manifest import git_state

SOURCES = (
    "Snakefile", "benchmarks", "core", "data", "data/rules.smk", "evaluation", "evaluation/rules.smk", "methods",
    "methods/rules.smk", "pipeline", "reports", "reports/rules.smk",
)  # fmt: skip
"""All that some path runs: `dag` plans with every room's rules."""
PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "trimesh", "embreex", "open3d", "pykdtree", "snakemake")
WRITTEN = ("benchmarks/README.md", "benchmarks/results")
"""What the benchmarks write themselves, below the root of the repository."""
BUSY = 0.3
"""Load a core, before anything was started, above which times are not to be trusted."""


def processor() -> str:
    """The model of the CPU, as the system names it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def loaded() -> bool:
    """Whether the machine has something to do, asked while nothing of ours runs."""
    return os.getloadavg()[0] / cores() > BUSY


def busy(load: float) -> bool:
    """Whether a load, taken while one thread of ours ran, is of other work as well."""
    return (load - 1) / cores() > BUSY


def pace(clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of a million additions in a Python loop, the least of five: how fast a core is today.

    A virtual machine's core may have half of its speed another day; seconds of two runs compare only beside this.
    """
    taken = []
    for _ in range(5):
        start, total = clock(), 0
        for i in range(1_000_000):
            total += i
        taken.append(clock() - start)
    return 1e3 * min(taken)


def gpu() -> str:
    """The first GPU, as CUDA names it. Raises UserError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here")
    return torch.cuda.get_device_name()


def describe(threads: int, gpu: str = "") -> dict[str, Any]:
    """All that a reader needs to know of the machine, now."""
    return {
        "cpu": processor(),
        "gpu": gpu,
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "threads": threads,
        "load": [round(x, 2) for x in os.getloadavg()],
        "busy": loaded(),
        "pace_ms": round(pace(), 1),
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "python": platform.python_version(),
        "system": platform.system(),
        "git": code_state(),
        "sources": source_hash(*SOURCES),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def code_state(root: Path = ROOT) -> dict[str, Any]:
    """`git_state`, in which the results and the page that a path has just left are no change of the code."""
    state = git_state()
    if state["dirty"]:
        but = [f":(exclude){name}" for name in WRITTEN]
        command = ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no", "--", ".", *but]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        state["dirty"] = bool(done.stdout.strip())
    return state


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_name(other: str = "") -> str:
    """The stem of the results file: processor, cores, and what else sets a run apart, as any file system takes it."""
    words = f"{processor()} {cores()} cores {other}"
    words = re.sub(r"\((R|TM|C)\)|\bCPU\b|@.*?GHz|\bProcessor\b", " ", words, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
