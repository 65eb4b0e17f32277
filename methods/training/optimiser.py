"""Optimisers and the learning-rate schedule, the same for every method.

`adamw` is the paper's choice. `muon` applies Muon (orthogonalised momentum) to the hidden matrices and AdamW
to the rest (embeddings, positions, norms, biases, input and output layers); at small budgets it reaches a
given loss in far fewer steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from core.errors import UserError
from methods.training.muon import BatchedMuon


def learning_rate_factor(step: int, steps: int, warmup: float, floor: float) -> float:
    """Linear warm-up over `warmup * steps`, then one cosine from 1 to `floor` over the rest."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    progress = (step - rise) / max(1, steps - rise)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def split_parameters(module: nn.Module, edges: Iterable[str]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(hidden matrices, everything else). `edges` are prefixes of names that are never hidden."""
    hidden, rest = [], []
    prefixes = tuple(edges)
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            matrix = parameter.ndim == 2 and name.endswith("weight") and not name.startswith(prefixes)
            (hidden if matrix else rest).append(parameter)
    return hidden, rest


def build_optimisers(
    module: nn.Module, params: Mapping[str, Any], lr: float, edges: Iterable[str] = ()
) -> list[torch.optim.Optimizer]:
    """Optimisers for `module`; `lr` is the peak learning rate of Muon's or AdamW's main group.

    params: name, betas, eps, weight_decay, and for muon `momentum`, `ns_steps` (of the Newton-Schulz iteration) and
    `adamw_lr` (peak rate of the rest).
    """
    hidden, rest = split_parameters(module, edges)
    fused = not any(p.is_meta for p in hidden + rest)  # shapes alone, without numbers, have no fused kernel
    adamw = {"betas": tuple(params["betas"]), "eps": params["eps"], "fused": fused}
    if params["name"] == "adamw":
        groups = [{"params": hidden, "weight_decay": params["weight_decay"]}, {"params": rest, "weight_decay": 0.0}]
        return [torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, **adamw)]
    if params["name"] == "muon":
        optimisers: list[torch.optim.Optimizer] = []
        if hidden:
            muon = {
                "momentum": params["momentum"],
                "ns_steps": params["ns_steps"],
                "weight_decay": params["weight_decay"],
            }
            optimisers.append(BatchedMuon(hidden, lr=lr, nesterov=True, adjust_lr_fn="match_rms_adamw", **muon))
        if rest:
            optimisers.append(torch.optim.AdamW(rest, lr=params["adamw_lr"], weight_decay=0.0, **adamw))
        return optimisers
    raise UserError(f"optimiser.name is {params['name']!r}; it must be adamw or muon.")
