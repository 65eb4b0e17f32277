"""A finished run's objects generated and scored as they are and plainly: seconds, and whether the scores stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.dense import dense_values
from benchmarks.finished import Finished
from benchmarks.measure import interleaved, ratios, spread
from benchmarks.networks import square_product, wait_of
from benchmarks.options import Options
from benchmarks.plain import open3d_icp
from benchmarks.plain import sampling as plain_sampling
from benchmarks.result import Equality, Row, Target
from benchmarks.scoring import A_PAIR, TRIED, search_alone
from benchmarks.scoring_same import SCIPYS, by_scipy, columns_error
from core.errors import UserError
from core.randomness import numpy_rng
from data.store import Sample, Split
from evaluation import protocol
from evaluation import score as scoring
from evaluation.load import Triangles, clean
from methods.contract import Mesh
from methods.mar3d import decoding
from methods.mar3d import method as mar3d
from methods.registry import resolve
from methods.training.flops import counted

GENERATED = "plain: sampling plainly, dense grids"
OBJECTS, COMPARED, PAIRS = 8, 8, 4
"""Test objects that are generated; generated in float32 as well and scored; timed when scored."""
TOLERANCE, SCORES = 1e-3, 1e-6
GROUP = "the run as a whole"


def generation(made: Finished, options: Options) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Calls that generate the run's first test objects: as it does, and plainly, in its own precision."""
    model, samples = loaded(made, options), tested(made, options)
    return partial(_meshes, model, samples), partial(_plainly, model, samples)


def loaded(made: Finished, options: Options, precision: str | None = None) -> Any:
    """`mar3d/full` of the run, ready to generate."""
    params = dict(resolve("mar3d", "full", made.scale).params)  # sampled and decoded as the code does today
    if precision is not None:
        params["sampling"] = {**params["sampling"], "precision": precision}
    return mar3d.Cascade(params, made.stages, torch.device(options.device))


def tested(made: Finished, options: Options) -> list[Sample]:
    """Test objects, each in its first upright view."""
    split = Split(made.prepared, "test")
    count = min(len(split), 2 if options.quick else OBJECTS)
    return [split.sample(i, split.upright_views[0]) for i in range(count)]


def _meshes(model: Any, samples: Sequence[Sample]) -> list[Any]:
    rngs = [numpy_rng("table2", sample.object) for sample in samples]
    return model.generate(np.stack([sample.image() for sample in samples]), rngs=rngs)


def _plainly(model: Any, samples: Sequence[Sample]) -> list[Any]:
    with plain_generation():
        return _meshes(model, samples)


@contextmanager
def plain_generation() -> Iterator[None]:
    """Within the block MAR samples plainly and every node of the finest grid is asked for."""
    sample = partial(plain_sampling.sample, plain=plain_sampling.Plain())

    def dense(field: Any, cells: int, **_: Any) -> np.ndarray:
        return dense_values(field, cells)

    with ExitStack() as stack:
        stack.enter_context(patch.object(mar3d, "sample", sample))
        stack.enter_context(patch.object(decoding, "evaluate", dense))
        yield


def generated(made: Finished, options: Options, own: Callable[[], Any], other: Callable[[], Any]) -> Row:
    """Seconds of an object; equality of the scores in float32, where batches do not change the rounding much."""
    rounds, wait = 3 if options.quick else 5, wait_of(options.device)
    precision = resolve("mar3d", "full", made.scale).params["sampling"]["precision"]
    product = square_product(precision, options.device, quick=options.quick)
    calls = {"ours": own, "plain": other, "product": product.call}
    _meshes(loaded(made, options), tested(made, options)[:1])  # warms up; a plain round takes most of a minute
    taken = interleaved(calls, rounds=rounds, seconds=40, warm_up=0, wait=wait)
    samples = tested(made, options)
    exact, compared = loaded(made, options, "fp32"), samples[:COMPARED]
    error = largest_difference(_meshes(exact, compared), _plainly(exact, compared), compared)
    each = 1 / len(samples)
    return Row(
        f"generation of an object, mean of {len(samples)}",
        "s",
        spread(taken["ours"]).times(each),
        GENERATED,
        spread(taken["plain"]).times(each),
        ratio=ratios(taken["plain"], taken["ours"]),
        equality=Equality(
            f"F@0.1 and CD-avg under v1, float32, largest difference of {len(compared)} objects", error, TOLERANCE
        ),
        limit=product.told(counted(own)[1], taken["ours"], taken["product"]),
        group=GROUP,
    )


def largest_difference(ours: Sequence[Any], theirs: Sequence[Any], samples: Sequence[Sample]) -> float:
    """Of F@0.1 and CD-avg of the meshes; infinite where one has a mesh and the other has none."""
    worst = 0.0
    for a, b, sample in zip(ours, theirs, samples, strict=False):
        if isinstance(a, Mesh) != isinstance(b, Mesh):
            return float("inf")
        if isinstance(a, Mesh):
            one, two = (_score(clean(m.vertices, m.faces), sample) for m in (a, b))
            worst = max(worst, *(abs(one[key] - two[key]) for key in ("fscore_0.1", "cd_avg")))
    return worst


def _score(mesh: Triangles, sample: Sample) -> dict[str, Any]:
    return scoring.score(mesh, clean(*sample.mesh()), protocol.load("v1"), name=sample.object)


def scored(made: Finished, options: Options) -> Row:
    """Seconds of a pair under v1: a generated mesh and its truth."""
    samples = tested(made, options)[: 1 if options.quick else PAIRS]
    both = zip(_meshes(loaded(made, options), samples), samples, strict=True)
    found = [(clean(m.vertices, m.faces), sample) for m, sample in both if isinstance(m, Mesh)]
    if not found:
        raise UserError("the run's decoder makes no mesh of its first test objects: give --finished a trained one")

    rows: dict[str, list[dict[str, Any]]] = {}

    def score(who: str) -> None:
        rows[who] = [_score(mesh, sample) for mesh, sample in found]

    def with_scipy() -> None:
        with by_scipy():
            score("plain")

    _score(*found[0])  # warms up; the pairs take seconds each
    open3d_icp.load()
    calls = {"ours": partial(score, "ours"), "plain": with_scipy}  # on the processor, wherever the networks are
    taken = interleaved(calls, rounds=3, seconds=40, warm_up=0)
    error = max(columns_error(a, b) for a, b in zip(rows["ours"], rows["plain"], strict=True))
    each = 1 / len(found)
    seconds = spread(taken["ours"]).times(each)
    return Row(
        f"scoring of a generated object under v1, mean of {len(found)}",
        "s",
        seconds,
        SCIPYS,
        spread(taken["plain"]).times(each),
        ratio=ratios(taken["plain"], taken["ours"]),
        equality=Equality(f"every column of {len(found)} pairs", error, SCORES),
        limit=search_alone(protocol.load("v1")),
        targets=(Target(A_PAIR, 1.0, seconds.median, "at most", "s"),),
        tried=TRIED,
        group=GROUP,
    )
