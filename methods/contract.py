"""The contract between a method and the benchmark.

A method is one folder under `methods/` with a `config.yaml` (read without torch) and a class that follows
`Method`. Its stages (what is trained, in which order, from which parameters) are declared in the config:
the registry derives keys, paths and sharing from there. The class does the work:

    method = Mar3D(params)                                   # params of one variant at one scale
    method.fit("vae", data, upstream={}, out=…, seed=0)      # once per stage, resumable
    generator = method.load({"vae": …, "mar_lr": …}, device) # folders written by `fit`
    meshes = generator.generate(images, rngs=…)              # images only; never ground truth
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

TIMED = ("condition", "sample", "decode", "mesh")
"""The parts of generating one object, in order, whose seconds and FLOPs may be told apart."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in the view frame: +Y up, camera on the +Z side, longest bbox side about 1.9.

    vertices: (n, 3) float32. faces: (m, 3) int32, counter-clockwise seen from outside.
    seconds: wall time by part of the generation, any of `TIMED`.
    """

    vertices: np.ndarray
    faces: np.ndarray
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """An object for which no mesh could be made, and why, in words."""

    reason: str


@dataclass(frozen=True)
class PreparedData:
    """The prepared shards of one dataset at one scale: `folder/{train,val,test}/*.safetensors`."""

    folder: Path
    dataset: str
    scale: str


@dataclass(frozen=True)
class Sizes:
    """What the prepared data decide about a step's cost. points: surface points of an object. image_size: pixels."""

    points: int
    image_size: int


@dataclass(frozen=True)
class Step:
    """One training step of a stage on made-up inputs of the true sizes: what `methods.foresee` counts, and runs.

    module: the torch module that is trained; frozen: modules that only run. draws: the kinds of steps there are, as
    (share, loss): shares sum to 1, and `loss()` makes a batch up and returns its scalar loss. training, optimiser and
    edges: as `methods.training.loop.train` takes them.
    """

    module: Any
    draws: Mapping[str, tuple[float, Callable[[], Any]]]
    training: Mapping[str, Any]
    optimiser: Mapping[str, Any]
    edges: tuple[str, ...] = ()
    frozen: tuple[Any, ...] = ()


class Generator(Protocol):
    """A loaded method, ready to turn images into meshes.

    It may also have `flops(images, *, rngs) -> Mapping[str, float]`, the floating-point operations of one object by
    part (as in `Mesh.seconds`), counted by generating from these images; they stand in the generation's manifest.
    `precision` (`bf16` or `fp32`, the default) is what it computes in, for the same manifest.
    And `viou(samples, *, rngs) -> list[float | None]`, the volume IoU of the field generated from the image of each
    `data.store.Sample` with its true shape: what `python -m methods guidance` compares, on the validation split alone.
    """

    def generate(
        self,
        images: np.ndarray,
        *,
        rngs: Sequence[np.random.Generator],
        ground_truth: Sequence[Any] | None = None,
    ) -> list[Mesh | Failure]:
        """One result per image.

        images: (b, h, w, 4) uint8, RGBA with straight alpha. rngs: one NumPy generator per image, the only
        source of randomness, so that an object's mesh does not depend on its neighbours in the batch.
        ground_truth: `data.store.Sample`s, handed only to a control whose config says `reads_ground_truth: true`;
        such a control may leave the default out.
        """
        ...


class Method(Protocol):
    """A method at one variant and scale; `params` is the resolved mapping of its `config.yaml`.

    It may also have, so that `python -m methods plan` can foresee what it will take (without them its row says so):
    `step_of(stage, sizes, *, upstream, batch, device) -> Step`, whose modules are built on `device` (mostly `meta`,
    which has shapes and no numbers); `upstream` maps each stage it needs to the params that stage was trained with,
    and `batch` None is the configured one. And `object_flops(stages, sizes) -> Mapping[str, float]`, the
    floating-point operations of generating one object by part, where `stages` maps names to such params. And
    `kept_bytes(views) -> Mapping[str, float]`, what it keeps of that many training views beside its weights, by name.
    Put what they call in `foresee.py` (or `foresee_….py`), which no code hash counts.
    """

    def __init__(self, params: Mapping[str, Any]) -> None: ...

    def fit(self, stage: str, data: PreparedData, *, upstream: Mapping[str, Path], out: Path, seed: int) -> None:
        """Train one stage: leave `weights.safetensors`, `fit.jsonl` and (what it measures) `measured.json` in `out`.

        The latter may name `caches`, files beside the weights that follow from them: archives leave those out, so that
        whoever reads one makes it again where it is missing.

        May be killed at any moment and called again: it resumes from `out/resume/` and ends with the same
        weights as an uninterrupted run. `upstream` maps each stage it needs to that stage's folder.
        """
        ...

    def load(self, stages: Mapping[str, Path], device: str) -> Generator:
        """Load trained stages for generation."""
        ...
