"""What test_fifty_steps.py runs under torchrun: `python -m methods fit`, with fewer steps and smaller batches.

fifty_steps.py STEPS BATCH OF_HR_DIRECT_AND_DIT SCALE METHOD VARIANT STAGE DATASET PREPARED RUNS
"""

from __future__ import annotations

import sys
from pathlib import Path

from core.errors import run_cli
from methods.contract import PreparedData
from methods.registry import get_method
from methods.run import fit
from methods.training import devices

TRAINED = ("vae", "mar_lr", "mar_hr", "mar_hr_direct")
"""Sections of MAR-3D's params with a training, which the DiT and the VAE study take over."""


def shorten(scale: str, steps: int, batches: dict[str, int]) -> None:
    """Change, in this process, what the methods' YAML says of a scale. batches: by section."""
    sections = get_method("mar3d").scales[scale]
    for name in TRAINED:
        sections[name]["training"] |= {"steps": steps, "batch": batches[name]}
    study = get_method("vae_study").scales.get(scale, {})
    if "vae" in study:
        study["vae"]["training"] |= {"steps": steps}


def main() -> None:
    """Fit one stage, as one of several processes."""
    steps, batch, small = map(int, sys.argv[1:4])
    scale, method, variant, stage, dataset, prepared, runs = sys.argv[4:]
    own = small if method == "dit" else batch
    batches = {"vae": batch, "mar_lr": own, "mar_hr": own, "mar_hr_direct": small}
    shorten(scale, steps, batches)
    data = PreparedData(Path(prepared), dataset, scale)
    fit(method, variant, stage, data, seed=0, runs=Path(runs), threads=1)
    devices.leave(stage)


if __name__ == "__main__":
    run_cli(main)
