"""The default run of Table 2 as a whole: how much of it the faster paths save, and that its scores stay as they are.

Training steps, generated objects and scored pairs are timed with what the other paths gain and without, interleaved;
the run's own counts of steps and objects make hours of them. Preparation, Snakemake and Python's starts are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from benchmarks import training_step
from benchmarks.finished import NOT_RUN, finished
from benchmarks.growth import Curve
from benchmarks.measure import Spread, interleaved, ratios, spread
from benchmarks.networks import square_product, wait_of
from benchmarks.options import Options
from benchmarks.plain.training import fused_attention, torchs_optimisers
from benchmarks.result import Equality, Outcome, Row, Target
from benchmarks.steps import hr_step, lr_step, vae_step
from benchmarks.table2_objects import GENERATED, GROUP, generated, generation, scored
from core.yaml_files import read_yaml
from methods.registry import resolve
from methods.specs import parse_setting
from methods.training.flops import counted
from pipeline.config import FOLDER

SUMMARY = "the default run of Table 2 as a whole: what the faster paths save, and its scores"
TRAINED = "plain: attention by the fused kernel, all tokens in the head, torch's own optimisers"
ALL = "plain: all of the above"
STEPS = {"vae": vae_step, "mar_lr": lr_step, "mar_hr": hr_step}
WORTH = 1.1
"""What is gained less than a tenth by is not worth having; judged on the lower quartile, so that noise is no gain."""
Steps = Mapping[str, int]


def run(options: Options) -> Outcome:
    """All rows and curves of the path."""
    steps, objects = counts(options)
    found = training(options)
    trained, plainly = found.ours, found.plain
    rows = [
        Row(
            f"training: {', '.join(f'{n:,} steps of {name}' for name, n in steps.items())}",
            "h",
            hours(trained, steps),
            TRAINED,
            hours(plainly, steps),
            ratio=_sums(plainly, trained, steps),
            equality=Equality(training_step.COMPARED, found.error, training_step.TOLERANCE),
            limit=f"{found.shares} of the rate of a square matrix product in the same rounds",
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
        "The run itself ends no sooner than before: what was gained on its way went into more training steps. From"
        " nothing to the table it took 51 min 43 s with 2,600 steps of each MAR-LR and 52 min 43 s to 54 min 2 s with"
        " 4,000 (docs/log.md, `recorded run of scale cpu, procedural` and those after it).",
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


@dataclass(frozen=True)
class Training:
    """Seconds of a step of each kind of stage in each round, as it is and plainly.

    error: the largest of a loss and its gradients. shares: of the matrix rate that each kind reaches, in words.
    """

    ours: Mapping[str, Sequence[float]]
    plain: Mapping[str, Sequence[float]]
    error: float
    shares: str


def training(options: Options) -> Training:
    """Steps of each kind, interleaved with as many written plainly."""
    ours, plain, errors, shares = {}, {}, [], []
    for name, build in STEPS.items():
        step = build(options)
        plain_loss = step.plain_loss or step.loss
        errors.append(training_step.difference(step, plain_loss, fused_attention, "fp32", options))
        product = square_product(step.precision, options.device, quick=options.quick)
        own = training_step.Whole(step, step.loss, nullcontext, step.precision, options)
        other = training_step.Whole(step, plain_loss, fused_attention, step.precision, options, torchs_optimisers)
        taken = interleaved(
            {"ours": own, "plain": other, "product": product.call}, rounds=3 if options.quick else 9,
            seconds=1 if options.quick else 12, wait=wait_of(options.device),
        )  # fmt: skip
        ours[name], plain[name] = taken["ours"], taken["plain"]
        shares.append(f"{name} {product.shares(counted(own)[1], taken['ours'], taken['product']).median:.0%}")
    return Training(ours, plain, max(errors), ", ".join(shares))


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
