"""What a stage leaves: its tensors, and the header from which their module is built again, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from methods.training.checkpoint import save_tensors

FILE = "weights.safetensors"

Module = TypeVar("Module", bound=nn.Module)


def save_weights(stage: Path, tensors: dict[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write the weights of the stage in the folder `stage`. header: what JSON can hold; params, image size."""
    # One entry of metadata: safetensors writes several in an order that changes from run to run.
    save_tensors(stage / FILE, tensors, {"header": json.dumps(header)})


def load_weights(stage: Path, device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors, on the device, that `save_weights` wrote."""
    with safe_open(stage / FILE, framework="pt") as file:
        header = json.loads(file.metadata()["header"])
    return header, load_file(stage / FILE, device=str(device))


def warm_start(module: nn.Module, stage: Path, also: Mapping[str, str] | None = None) -> None:
    """Let a module begin with the weights of another stage: each tensor in the place of its name, as far as both reach.

    Whatever the other stage lacks, or has fewer of (positions of tokens), keeps its initial values. also: further parts
    of the module, each with the part of the other that it begins as (the embedding of LR tokens as that of the tokens
    themselves).
    """
    own, given = module.state_dict(), load_file(stage / FILE)  # the former are the very tensors of the module
    starts = {name: name for name in given}
    for part, source in (also or {}).items():
        inside = (name for name in given if name == source or name.startswith(f"{source}."))
        starts |= {part + name.removeprefix(source): name for name in inside}
    for name, source in starts.items():
        if name in own:
            reach = tuple(slice(min(sizes)) for sizes in zip(own[name].shape, given[source].shape, strict=True))
            own[name][reach] = given[source][reach].to(own[name].device)


def lowered(module: Module, precision: str) -> Module:
    """Hold what matrix products read in bf16 where autocast would cast it at every use: the results are the same bits.

    For modules that are not trained: autocast keeps its casts only of what wants gradients.
    """
    if precision == "bf16":
        for part in module.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                part.bfloat16()
    return module


def frozen(module: Module, tensors: Mapping[str, Tensor], device: torch.device) -> Module:
    """The module holding these tensors on the device, for use without training."""
    module.to(device).load_state_dict(tensors)
    return module.eval().requires_grad_(False)
