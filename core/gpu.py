"""What torch reads of the environment about a GPU when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
CUDNN_LAST = "TORCH_CUDNN_SDPA_DEPRIORITIZED"


def gpu_variables(given: Mapping[str, str]) -> dict[str, str]:
    """What to set before torch is imported, where the environment `given` does not say otherwise.

    MAR masks another number of tokens at every step, and decoding asks another number of points for every object:
    * a GPU's memory grows in place, since blocks of so many sizes would leave gaps that no other one fits;
    * attention does not try cuDNN first, as torch does on Hopper and Blackwell: it builds a plan for each new length
      (`check_prefer_cudnn_attention` in torch's sdp_utils.cpp; any value but 1 leaves it first).
    """
    memory = {} if given.keys() & set(ALLOCATOR) else {ALLOCATOR[0]: "expandable_segments:True"}
    return memory | ({} if CUDNN_LAST in given else {CUDNN_LAST: "1"})
