"""One training step on the meta device: its FLOPs and its memory, at full size and at no cost.

Meta tensors have shapes and types and no numbers, so a step of the paper's size takes seconds on any machine. What a
GPU would do is followed in two respects: `AsOnGpu` casts as bf16 autocast does on CUDA, and attends with the fused
kernel, which keeps no attention matrix and computes it again in the backward pass (its FLOPs count, as they do when a
training on a GPU is counted). The activations are what autograd keeps for the backward pass, counted by
`torch.autograd.graph.saved_tensors_hooks`: each storage once, parameters left out, bf16 copies of weights included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from methods.contract import Step
from methods.training.flops import counted
from methods.training.optimiser import build_optimisers

LOWER = frozenset({F.linear, F.conv2d, torch.conv2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm})
"""Run in bf16 under autocast on CUDA."""
RAISE = frozenset(
    {F.layer_norm, F.group_norm, F.softmax, torch.softmax, Tensor.softmax, torch.exp, Tensor.exp, torch.pow, Tensor.pow}
    | {F.binary_cross_entropy_with_logits, F.mse_loss, torch.sum, Tensor.sum}
)
"""Run in float32 under autocast on CUDA."""


class AsOnGpu(TorchFunctionMode):
    """On meta tensors: the casts of CUDA's bf16 autocast (if `bf16`), and fused attention.

    PyTorch has no autocast for the meta device; this follows the published lists of its CUDA one as far as the methods
    here call functions from them.
    """

    def __init__(self, *, bf16: bool) -> None:
        super().__init__()
        self.bf16 = bf16
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # of weights, cast once a step

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            q, k, v = (self._lowered(x) for x in args)
            if q.dtype == torch.bfloat16:
                return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
            return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]
        if self.bf16 and func in LOWER:
            args, kwargs = tuple(map(self._lowered, args)), {k: self._lowered(v) for k, v in kwargs.items()}
        elif self.bf16 and func in RAISE:
            args, kwargs = tuple(map(_raised, args)), {k: _raised(v) for k, v in kwargs.items()}
        return func(*args, **kwargs)

    def _lowered(self, value: Any) -> Any:
        if not (self.bf16 and isinstance(value, Tensor) and value.dtype == torch.float32):
            return value
        if not (value.is_leaf and value.requires_grad and torch.is_grad_enabled()):
            return value.bfloat16()
        if id(value) not in self._copies:
            self._copies[id(value)] = (value, value.bfloat16())  # the weight is held, so that its id stays its own
        return self._copies[id(value)][1]


def _raised(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


@dataclass(frozen=True)
class Traced:
    """What one step takes. parameters: trained, frozen: not. FLOPs of a step, mean over its draws. Memory in bytes.

    optimiser_flops: of an update; Muon's are matrix products too, AdamW's are none.
    weights, gradients, moments, average: float32, of the trained parameters (average: the exponential moving one).
    frozen_bytes: parameters that only run. activations: the largest of the draws.
    """

    parameters: int
    frozen: int
    flops: float
    weights: int
    gradients: int
    moments: int
    average: int
    frozen_bytes: int
    activations: int
    optimiser_flops: float = 0.0

    @property
    def memory(self) -> int:
        """All of it: the peak of a step but for temporary results, the allocator's gaps and data on the card."""
        held = self.weights + self.gradients + self.moments + self.average
        return held + self.frozen_bytes + self.activations


def trace(step: Step) -> Traced:
    """Count a step whose modules are on the meta device; its gradients are left on the module."""
    bf16 = step.training["precision"] == "bf16"
    trained = [p for p in step.module.parameters() if p.requires_grad]
    still = [p for p in step.module.parameters() if not p.requires_grad]
    still += [p for module in step.frozen for p in module.parameters()]
    parameters = {p.untyped_storage()._cdata for p in (*trained, *still)}
    flops, activations = 0.0, 0
    step.module.train().zero_grad(set_to_none=True)
    for share, loss in step.draws.values():  # gradients add up: what any draw trains has one, and moments
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(x: Tensor, kept: dict[int, torch.UntypedStorage] = kept) -> Tensor:
            storage = x.untyped_storage()
            if storage._cdata not in parameters:
                kept[storage._cdata] = storage  # held, so that no other storage takes its place
            return x

        def forward_backward(loss: Callable[[], Tensor] = loss, keep: Callable[[Tensor], Tensor] = keep) -> None:
            with AsOnGpu(bf16=bf16), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
                value = loss()
            value.backward()

        flops += share * counted(forward_backward)[1]
        activations = max(activations, sum(storage.nbytes() for storage in kept.values()))
    moments, updating = _update(step)
    return Traced(
        parameters=sum(p.numel() for p in trained),
        frozen=sum(p.numel() for p in still),
        flops=flops,
        weights=_bytes(trained),
        gradients=_bytes([p.grad for p in trained if p.grad is not None]),
        moments=moments,
        average=_bytes(trained),
        frozen_bytes=_bytes(still),
        activations=activations,
        optimiser_flops=updating,
    )


def _update(step: Step) -> tuple[int, int]:
    """Bytes that the optimisers keep after a first step, taken on the meta device, and its FLOPs."""
    total = flops = 0
    for optimiser in build_optimisers(step.module, step.optimiser, step.training["lr"], step.edges):
        flops += counted(optimiser.step)[1]
        total += _bytes([v for state in optimiser.state.values() for v in state.values() if isinstance(v, Tensor)])
    return total, flops


def _bytes(tensors: list[Tensor] | list[nn.Parameter]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)
