"""The default run of Table 2 as a whole: how much of it the faster paths save, and that its scores stay as they are.

Training steps, generated objects and scored pairs are timed with what the other paths gain and without, interleaved;
the run's own counts of steps and objects make hours of them. Preparation, Snakemake and Python's starts are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks import training_step
from benchmarks.dense import dense_values
from benchmarks.finished import NOT_RUN, Finished, finished
from benchmarks.growth import Curve
from benchmarks.measure import Spread, interleaved, ratios, spread
from benchmarks.networks import wait_of
from benchmarks.options import Options
from benchmarks.plain import sampling as plain_sampling
from benchmarks.plain.training import fused_attention
from benchmarks.result import Equality, Outcome, Row, Target
from benchmarks.steps import hr_step, lr_step, vae_step
from core.errors import UserError
from core.randomness import numpy_rng
from core.yaml_files import read_yaml
from data.store import Sample, Split
from evaluation import open3d_bridge, protocol
from evaluation import score as scoring
from evaluation.load import Triangles, clean
from methods.contract import Mesh
from methods.mar3d import decoding
from methods.mar3d import method as mar3d
from methods.registry import resolve
from methods.specs import parse_setting
from pipeline.config import FOLDER

SUMMARY = "the default run of Table 2 as a whole: what the faster paths save, and its scores"
TRAINED = "plain: attention by the fused kernel, all tokens in the head"
GENERATED = "plain: sampling plainly, dense grids"
SCORED = "plain: SciPy's trees"
ALL = "plain: all of the above"
STEPS = {"vae": vae_step, "mar_lr": lr_step, "mar_hr": hr_step}
OBJECTS, COMPARED, PAIRS = 16, 8, 4
"""Test objects that are generated; generated in float32 as well and scored; timed when scored."""
TOLERANCE, SCORES = 1e-3, 1e-6
WORTH = 1.1
"""What is gained less than a tenth by is not worth having; judged on the lower quartile, so that noise is no gain."""
GROUP = "the run as a whole"
Steps = Mapping[str, int]


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    steps, objects = counts(options)
    trained, plainly, error = training(options)
    rows = [
        Row(
            f"training: {', '.join(f'{n:,} steps of {name}' for name, n in steps.items())}",
            "h",
            hours(trained, steps),
            TRAINED,
            hours(plainly, steps),
            ratio=_sums(plainly, trained, steps),
            equality=Equality("loss in float32, relative", error, training_step.TOLERANCE),
        )
    ]
    if options.finished is None:
        whole_run = Row("generation and scoring", "s", None, GENERATED, peer_status=NOT_RUN, group=GROUP)
        return Outcome("table2", (*rows, whole_run))
    made = finished(options.finished)
    own, other = generation(made, options)
    rows += [generated(made, options, own, other), scored(made, options)]
    rows.append(whole(trained, plainly, steps, objects, rows))
    return Outcome("table2", tuple(rows), notes=(
        "Objects are generated twice from the same weights and random draws, and both meshes are scored.",
        "The last row adds the rows above, times what Table 2 has of them; preparation and starts are the same.",
    ))  # fmt: skip


def growth(options: Options) -> tuple[Curve, ...]:
    """None of its own: the parts grow as their own paths say."""
    return ()


# ---------------------------------------------------------------- what the run does


def counts(options: Options) -> tuple[Steps, int]:
    """Training steps of Table 2 by kind of stage, shared ones once; and objects that are generated and scored."""
    scale = "smoke" if options.quick else options.scale
    config = read_yaml(FOLDER / "config.yaml")
    stages = {}
    for name in config["table2"]["settings"]:
        stages |= {stage.folder_name: stage for stage in resolve(*parse_setting(name), scale).stages}
    steps = dict.fromkeys(STEPS, 0)
    for stage in stages.values():
        steps[stage.name] += stage.params[stage.name]["training"]["steps"]
    return steps, config["datasets"]["procedural"]["counts"]["test"] * len(config["table2"]["settings"])


# ---------------------------------------------------------------- training


def training(options: Options) -> tuple[dict[str, list[float]], dict[str, list[float]], float]:
    """Seconds of a step of each kind of stage in each round, as it is and plainly; the largest error of a loss."""
    ours, plain, error = {}, {}, 0.0
    for name, build in STEPS.items():
        step = build(options)
        plain_loss = step.plain_loss or step.loss
        error = max(error, training_step.loss_error(step, plain_loss, fused_attention))
        calls = {
            "ours": training_step.Whole(step, step.loss, nullcontext, step.precision, options),
            "plain": training_step.Whole(step, plain_loss, fused_attention, step.precision, options),
        }
        rounds, seconds = (3, 1) if options.quick else (9, 12)
        taken = interleaved(calls, rounds=rounds, seconds=seconds, wait=wait_of(options.device))
        ours[name], plain[name] = taken["ours"], taken["plain"]
    return ours, plain, error


def hours(seconds: Mapping[str, Sequence[float]], steps: Steps) -> Spread:
    """Of all steps, from the seconds of one of each kind, round by round."""
    return spread(_rounds(seconds, steps)).times(1 / 3600)


def _rounds(seconds: Mapping[str, Sequence[float]], steps: Steps) -> list[float]:
    return [
        sum(n * taken for n, taken in zip(steps.values(), round_, strict=True))
        for round_ in zip(*seconds.values(), strict=False)  # some had fewer rounds
    ]


def _sums(plain: Mapping[str, Sequence[float]], ours: Mapping[str, Sequence[float]], steps: Steps) -> Spread:
    return ratios(_rounds(plain, steps), _rounds(ours, steps))


# ---------------------------------------------------------------- generation


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
    taken = interleaved({"ours": own, "plain": other}, rounds=rounds, seconds=50, wait=wait)
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


# ---------------------------------------------------------------- scoring


def scored(made: Finished, options: Options) -> Row:
    """Seconds of a pair under v1: a generated mesh and its truth."""
    samples = tested(made, options)[: 1 if options.quick else PAIRS]
    both = zip(_meshes(loaded(made, options), samples), samples, strict=True)
    found = [(clean(m.vertices, m.faces), sample) for m, sample in both if isinstance(m, Mesh)]
    if not found:
        raise UserError("the run's decoder makes no mesh of its first test objects: give --finished a trained one")

    def score() -> list[dict[str, Any]]:
        return [_score(mesh, sample) for mesh, sample in found]

    def with_scipy() -> list[dict[str, Any]]:
        with patch.object(open3d_bridge.Tree, "__init__", scipy_tree):
            return score()

    taken = interleaved({"ours": score, "plain": with_scipy}, rounds=3, seconds=40)  # on the processor, wherever
    pairs = zip(score(), with_scipy(), strict=True)
    error = max(abs(a[key] - b[key]) for a, b in pairs for key in ("fscore_0.1", "cd_avg", "nc"))
    each = 1 / len(found)
    return Row(
        f"scoring of a generated object under v1, mean of {len(found)}",
        "s",
        spread(taken["ours"]).times(each),
        SCORED,
        spread(taken["plain"]).times(each),
        ratio=ratios(taken["plain"], taken["ours"]),
        equality=Equality(f"F@0.1, CD-avg and NC, largest difference of {len(found)} pairs", float(error), SCORES),
        group=GROUP,
    )


def scipy_tree(self: open3d_bridge.Tree, points: np.ndarray) -> None:
    """As `Tree` is built where Open3D is not installed."""
    from scipy.spatial import cKDTree

    self._index, self._scipy = None, cKDTree(points)


# ---------------------------------------------------------------- all of it


def whole(
    trained: Mapping[str, Sequence[float]], plainly: Mapping[str, Sequence[float]], steps: Steps, objects: int,
    rows: Sequence[Row],
) -> Row:  # fmt: skip
    """Hours of training, generation and scoring of all settings, on one core."""
    sides = ([row.cost for row in rows[1:]], [row.peer_cost for row in rows[1:]])
    per_object = [sum(cost.median for cost in costs) for costs in sides]
    ours, plain = (
        [seconds + objects * each for seconds in _rounds(taken, steps)]
        for taken, each in zip((trained, plainly), per_object, strict=True)
    )
    gain = ratios(plain, ours)
    return Row(
        f"all of these steps and {objects} objects, core-hours",
        "h",
        spread(ours).times(1 / 3600),
        ALL,
        spread(plain).times(1 / 3600),
        ratio=gain,
        equality=Equality(
            "the rows above, error over what is allowed",
            max(r.equality.error / r.equality.tolerance for r in rows),
            1.0,
        ),
        targets=(Target("ratio, lower quartile", WORTH, gain.low),),
        tried="The parts are the rows above and the paths of their own.",
        group=GROUP,
    )
