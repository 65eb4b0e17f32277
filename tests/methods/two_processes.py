"""What test_processes.py runs under torchrun: trainings shared by two processes, one of which is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from core.errors import run_cli
from methods.contract import PreparedData
from methods.mar3d.method import fit_mar
from methods.mar3d.vae_training import fit_vae
from methods.registry import resolve
from methods.training import log, loop, processes

CPU = torch.device("cpu")
STEPS = 20
KILL_AT = 12


def params(optimiser: str = "adamw", **hardware: object) -> dict:
    """Smoke parameters in float32, twenty steps."""
    found = dict(resolve("mar3d", "full", "smoke").params)
    found["optimiser"] = {**found["optimiser"], "name": optimiser}
    found["hardware"] = {**found["hardware"], **hardware}
    for name in ("vae", "mar_lr"):
        found[name] = {**found[name], "training": {**found[name]["training"], "steps": STEPS, "precision": "fp32"}}
    return found


def vae(prepared: Path, out: Path, optimiser: str = "adamw", **hardware: object) -> None:
    """Fit the VAE."""
    fit_vae(params(optimiser, **hardware), PreparedData(prepared, "procedural", "smoke"), out=out, seed=0, device=CPU)


def mar(prepared: Path, stage: Path, out: Path, **hardware: object) -> None:
    """Fit MAR-LR on the latents of a fitted VAE."""
    data = PreparedData(prepared, "procedural", "smoke")
    fit_mar(params(**hardware), "mar_lr", data, vae=stage, out=out, seed=0, device=CPU)


def stop_at(step: int, how: signal.Signals) -> None:
    """Kill this process when it comes to log `step`; save the resume state at every step before."""
    loop.train.__kwdefaults__["save_every"] = 0.0
    line = log.Log.line

    def patched(self: log.Log, at: int, *rest: object) -> None:
        if at == step:
            os.kill(os.getpid(), how)
        line(self, at, *rest)

    log.Log.line = patched


def main() -> None:
    """Arguments: folder of prepared shards, folder of the results, `killed`, `again` or `compiled`."""
    prepared, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    assert processes.count() == 2
    if sys.argv[3] == "compiled":
        vae(prepared, out / "compiled" / "vae", compile=True)
        return mar(prepared, out / "one" / "vae", out / "compiled" / "mar_lr", compile=True)
    if sys.argv[3] == "killed":
        mar(prepared, out / "one" / "vae", out / "two" / "mar_lr")
        vae(prepared, out / "two" / "vae")
        vae(prepared, out / "two" / "muon", "muon")
        vae(prepared, out / "one_to_two")
        if processes.rank() == 1:
            stop_at(KILL_AT, signal.SIGKILL)
        else:
            loop.train.__kwdefaults__["save_every"] = 0.0
    return vae(prepared, out / "killed", "muon")


if __name__ == "__main__":
    run_cli(main)
