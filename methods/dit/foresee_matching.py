"""How many training steps and sampling steps give a DiT the FLOPs of MAR's stage of the same design.

    python -m methods.dit.foresee_matching --scale cpu

prints the `steps_of_mar` and the sampling `steps` that `config.yaml` states in its variants `…_equal_flops` and
`…_equal_time`. What is counted is what a plan counts (`foresee.py` of both methods), on the meta device: shapes and
operations, no numbers. A test counts again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from core.errors import run_cli
from methods.contract import Sizes, Step
from methods.dit import foresee as dit
from methods.dit.dit import build_dit
from methods.dit.method import MAR, training_of
from methods.foresee.sizes import configuration, sizes_of
from methods.mar3d import foresee as mar3d
from methods.mar3d.foresee import META
from methods.mar3d.mar import build_mar
from methods.registry import resolve
from methods.specs import SCALES
from methods.training.flops import counted

Params = Mapping[str, Any]


def networks(params: Params, stage: str, image_size: int) -> tuple[nn.Module, nn.Module]:
    """MAR's network and the DiT's of a stage of `MAR`, on the meta device."""
    with META:
        return build_mar(params, _name(stage), image_size), build_dit(params, stage, image_size)


def training_flops(params: Params, stage: str, sizes: Sizes) -> tuple[float, float]:
    """FLOPs of one training step a sample, of MAR and of the DiT: of these alone, with latents from a cache."""
    cached = {**params, "latent": {**params["latent"], "cache": True}}
    training, augmentation = training_of(params, stage), params[MAR[stage]].get("augmentation")
    theirs = mar3d.mar_step(cached, _name(stage), sizes, batch=1, device=META)
    return _flops(theirs), _flops(dit.dit_step(cached, stage, training, augmentation, sizes, batch=1, device=META))


def _flops(step: Step) -> float:
    return sum(share * counted(lambda loss=loss: loss().backward())[1] for share, loss in step.draws.values())


def sampling_flops(params: Params, theirs: Params, stage: str, sizes: Sizes) -> tuple[float, Callable[[int], float]]:
    """FLOPs of sampling one object: MAR's, and the DiT's as a function of its steps. theirs: the params of mar3d."""
    settings = theirs["sampling"]["lr" if _name(stage) == "lr" else "hr"]
    return mar3d.sampling_flops(params, _name(stage), settings, sizes), dit.flops_of_steps(params, stage, sizes)


def _name(stage: str) -> str:
    """MAR's network of the same design, as `build_mar` names it."""
    return MAR[stage].removeprefix("mar_")


def main() -> None:
    """Print what `config.yaml` should state at a scale."""
    parser = argparse.ArgumentParser(prog="python -m methods.dit.foresee_matching", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, required=True)
    scale = parser.parse_args().scale
    sizes = sizes_of(configuration(scale))
    params, theirs = (resolve(*name, scale).params for name in (("dit", "cascade"), ("mar3d", "full")))
    for stage in MAR:
        mar, own = training_flops(params, stage, sizes)
        wanted, of_steps = sampling_flops(params, theirs, stage, sizes)
        steps = round(1 + (wanted - of_steps(1)) / (of_steps(2) - of_steps(1)))
        given = of_steps(params["sampling"][stage]["steps"]) / wanted
        print(f"{stage}: a step {mar:.3g} (MAR), {own:.3g}; steps_of_mar {mar / own:.2f}", flush=True)
        print(f"  an object {wanted:.3g} (MAR), {given:.2f} of it at the scale's steps; equal at {steps}", flush=True)


if __name__ == "__main__":
    run_cli(main)
