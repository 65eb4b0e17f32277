"""One whole training step of every stage at the paper's size, at batch 1, on a CPU or, with GPU=1, on a GPU. Opt-in:

    [GPU=1] PAPER_STEPS=1 python -m pytest -n0 -s tests/methods/test_paper_step.py

Each stage runs in a process of its own and says what it took. A stage that needs more memory than is free (foreseen on
the meta device: weights, gradients, two moments and moving average take 20 bytes a parameter) is skipped and says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.identity import ROOT
from methods.foresee.sizes import configuration, sizes_of
from methods.foresee.totals import made_up_step
from methods.foresee.trace import trace
from methods.registry import resolve
from tests.methods.trained import STAGES

pytestmark = pytest.mark.skipif(not os.environ.get("PAPER_STEPS"), reason="takes minutes and gigabytes: PAPER_STEPS=1")


def free_bytes() -> int:
    """Of the GPU if there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    text = Path("/proc/meminfo").read_text(encoding="utf-8")
    return int(re.search(r"MemAvailable:\s+(\d+) kB", text)[1]) * 1024


@pytest.mark.parametrize("setting, stage", STAGES)
def test_a_whole_step_runs(setting, stage):
    spec = resolve(*setting.split("/"), "paper").stage(stage)
    foreseen = trace(made_up_step(spec, "paper", sizes_of(configuration("paper")), batch=1, device="meta"))
    room = 1.5 * foreseen.activations  # a CPU's attention keeps its matrix, and results pass through
    if free_bytes() < foreseen.memory + room:
        pytest.skip(f"{foreseen.memory / 1e9:.1f} GB and more are needed, {free_bytes() / 1e9:.1f} GB are free")
    command = [sys.executable, "-m", "methods", "step", "--method", setting, "--stage", stage, "--scale", "paper"]
    done = subprocess.run([*command, "--batch", "1", "--repeats", "0"], cwd=ROOT, capture_output=True, text=True)
    print(f"\n{done.stdout}  foreseen: {foreseen.memory / 1e9:.2f} GB, {foreseen.flops / 1e12:.3g} TFLOP")
    assert done.returncode == 0, done.stderr
    loss = float(re.search(r"loss (\S+)", done.stdout)[1])
    assert 0 < loss < 100
