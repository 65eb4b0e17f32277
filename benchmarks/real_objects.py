"""Objects that a finished run was not taught, as its decoder makes them: what is asked, and what comes out.

Nothing here is timed, so objects are shared by as many processes as there are cores.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import faithful, machine
from benchmarks.dense import Counted, dense_values, needed
from benchmarks.extraction_same import TOLERANCE
from benchmarks.faithful import Difference
from benchmarks.finished import CEILING, finished
from benchmarks.networks import params_of
from benchmarks.options import Options
from core.randomness import numpy_rng
from data.store import Sample, Split
from methods.layers.coarse_to_fine import evaluate
from methods.layers.extraction import surface
from methods.mar3d.decoding import field_of
from methods.mar3d.latents import load_vae
from methods.mar3d.pyramid_vae import PyramidVAE
from methods.training.loop import autocast
from methods.training.weights import lowered
from reports.figures.thickness import thinnest


@dataclass(frozen=True)
class Extracted:
    """One object at one resolution. queries: that were asked. needed: that any way has to ask.

    apart: from the mesh of the dense grid. steepest: as `faithful.steepest` has it, of the dense grid. Both are None
    where the dense grid was not evaluated.
    """

    name: str
    queries: int
    needed: int
    apart: Difference | None = None
    steepest: float | None = None


@dataclass(frozen=True)
class Decoder:
    """A finished run's VAE by its folder, so that each process loads its own, once."""

    stage: Path
    device: str
    precision: str

    @classmethod
    def of(cls, options: Options) -> Decoder:
        """The one that the run's ceiling has, in the precision of generation."""
        assert options.finished is not None
        stage = finished(options.finished, CEILING).stages["vae"]
        return cls(stage, options.device, params_of("mar3d", options)["sampling"]["precision"])

    @torch.no_grad()
    def field(self, sample: Sample) -> Counted:
        """What it makes of an object's own latents."""
        vae, device = _loaded(self), torch.device(self.device)
        points, normals = (torch.from_numpy(a)[None].to(device) for a in sample.surface())
        with autocast(device, self.precision):
            keys = vae.decode(vae.encode(points, normals, "hr").mean)
        return Counted(field_of(vae, keys, self.precision))

    def extract(self, sample: Sample, cells: int, settings: dict[str, Any], *, compare: bool) -> Extracted:
        """From coarse to fine; `compare`: beside the dense grid, which takes a minute at 256 cells."""
        asked = self.field(sample)
        values = evaluate(asked, cells, **settings)
        queries = asked.points
        if not compare:
            return Extracted(sample.object, queries, needed(values))
        dense = dense_values(asked, cells)
        apart = faithful.difference(surface(values), surface(dense), TOLERANCE)
        return Extracted(sample.object, queries, needed(dense), apart, faithful.steepest(dense))


@functools.cache
def _loaded(decoder: Decoder) -> PyramidVAE:
    return lowered(load_vae(decoder.stage, torch.device(decoder.device))[0], decoder.precision)


def unseen(options: Options) -> list[Sample]:
    """Objects of the test and validation splits, each in its first upright view; thinnest walls first."""
    assert options.finished is not None
    splits = [Split(finished(options.finished, CEILING).prepared, name) for name in ("test", "val")]
    return sorted((split.sample(i, split.upright_views[0]) for split in splits for i in range(len(split))), key=wall)


def wall(sample: Any) -> float:
    """The thinnest wall of a prepared object in its view frame; infinite where it has no parallel walls."""
    place = thinnest(*sample.mesh(), rng=numpy_rng("thinnest", sample.object))
    return place.thickness if place else float("inf")


def shared(work: Callable[[Sample], Extracted], samples: Sequence[Sample], options: Options) -> list[Extracted]:
    """Each object's work, in their order; on a CPU by a process for each core, unless sizes are tiny."""
    processes = 1 if options.quick or options.device != "cpu" else min(machine.cores(), len(samples))
    if processes <= 1:
        return [work(sample) for sample in samples]
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(work, samples))
