"""Muon that orthogonalises matrices of equal shape together.

torch's own takes one after the other, some thirty calls each: a GPU waits for thousands of launches at every step, and
a CPU for calls whose products are small (docs/log.md, `optimisers on a CPU`). Same results to rounding of bfloat16.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor, nn


class BatchedMuon(torch.optim.Muon):
    """`torch.optim.Muon(nesterov=True, adjust_lr_fn="match_rms_adamw")`, with the same state."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for parameters in alike.values():
                self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: dict) -> None:
        """Parameters of one shape."""
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
        gradients, averages = [p.grad for p in parameters], [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp(gradients, averages, group["momentum"]))
        directions = orthogonalised(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"]).to(ahead.dtype)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * 0.2 * math.sqrt(max(parameters[0].shape))  # as large a step as AdamW's
        torch._foreach_add_(parameters, directions.unbind(), alpha=-rate)


def orthogonalised(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Matrices (n, rows, columns) with singular values near 1, bfloat16, by Newton-Schulz iterations (Jordan, 2024)."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
