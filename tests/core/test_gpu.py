"""What torch is told of a GPU: only what the user has not said."""

import pytest

from core.gpu import gpu_variables

ALLOCATOR = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
CUDNN_LAST = {"TORCH_CUDNN_SDPA_DEPRIORITIZED": "1"}


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, ALLOCATOR | CUDNN_LAST),
        ({"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, CUDNN_LAST),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, CUDNN_LAST),
        ({"TORCH_CUDNN_SDPA_DEPRIORITIZED": "0"}, ALLOCATOR),
    ],
)
def test_memory_grows_in_place_and_attention_builds_no_plans_unless_the_user_says_otherwise(given, expected):
    assert gpu_variables(given) == expected
