"""The formulas give what is counted from the code, so that neither can change alone."""

import math
from contextlib import nullcontext

import pytest
import torch

from benchmarks import mar_sampling, theory, training_step
from benchmarks.networks import params_of, sizes_of
from benchmarks.options import Options
from benchmarks.steps import with_tokens
from methods.mar3d.mar import mask_ratio
from methods.training.flops import counted

QUICK = Options(quick=True)
SIZE = sizes_of(QUICK).image_size


@pytest.mark.parametrize("tokens", [8, 48])
def test_sampling_by_formula_is_what_is_counted(tokens):
    params = with_tokens(params_of("mar3d", QUICK), "lr", tokens)
    model = mar_sampling.build(params, "lr", SIZE, "cpu")
    settings = {**mar_sampling.settings_of(params, "lr", QUICK), "steps": 4, "diffusion_steps": 5}
    call = mar_sampling.sampler(model, mar_sampling.inputs_of(model, SIZE, "cpu"), settings, None, QUICK, "fp32")
    assert theory.sampling(params, settings, tokens, SIZE) == counted(call)[1]


def backward(step):
    return counted(lambda: training_step._loss(step.loss, nullcontext, "fp32", QUICK).backward())[1] / step.batch


@pytest.mark.parametrize("tokens", [8, 48])
def test_training_by_formula_is_what_is_counted_but_for_inputs_without_a_gradient(tokens):
    params = params_of("mar3d", QUICK)
    masked = math.ceil(tokens * mask_ratio(torch.Generator().manual_seed(7), **params["mar"]["mask"]))
    found = backward(training_step.lr_step(QUICK, 4, tokens))
    assert found <= theory.mar_training(params, tokens, masked, SIZE) <= 1.1 * found
    found = backward(training_step.dit_step(QUICK, 4, tokens))
    assert found <= theory.dit_training(params_of("dit", QUICK), tokens, SIZE) <= 1.1 * found
