"""Resume state as safetensors: weights, moving average, optimiser moments, step. Nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import UserError
from core.files import atomic_path


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors atomically, on the CPU and contiguous."""
    with atomic_path(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata)


def save_state(
    folder: Path,
    *,
    step: int,
    model: dict[str, Tensor],
    average: dict[str, Tensor],
    optimisers: list[torch.optim.Optimizer],
    log_bytes: int,
    flops: list[tuple[int, int]],
) -> None:
    """Write the resume state after `step` steps.

    log_bytes: the length of `fit.jsonl` then. flops: of the steps whose operations were counted.
    """
    tensors = {f"model/{k}": v for k, v in model.items()} | {f"average/{k}": v for k, v in average.items()}
    for i, optimiser in enumerate(optimisers):
        for j, entry in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{i}/{j}/{k}": torch.as_tensor(v) for k, v in entry.items()}
    header = {"state": json.dumps({"step": step, "log_bytes": log_bytes, "flops": flops})}
    save_tensors(folder / "state.safetensors", tensors, header)


def read_header(folder: Path) -> dict | None:
    """The step, log length and counted FLOPs of the resume state in `folder`, or None if there is none.

    Raises UserError for one that cannot be read, such as of a machine that was lost as it wrote.
    """
    path = folder / "state.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["state"])
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read ({error}): delete it, and the training begins again") from error


def restore_state(
    folder: Path, model: torch.nn.Module, average: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]
) -> None:
    """Load the resume state of `folder` into the model, its average and its optimisers, in place."""
    tensors = load_file(folder / "state.safetensors")
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model/")})
    for name, value in average.items():
        value.copy_(tensors[f"average/{name}"])
    for i, optimiser in enumerate(optimisers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(f"optimiser/{i}/"):
                _, _, j, key = name.split("/")
                state.setdefault(int(j), {})[key] = value
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
