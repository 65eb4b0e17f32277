"""What many settings take together: each stage once, however many settings share it, and each setting's generation.

What is counted: `trace` runs one step of a stage at its configured batch on the meta device. What is assumed: that a
card reaches the stated share (utilisation) of its published bf16 peak, and that cards in parallel lose nothing. Where
several share a training, each takes its part of the batch (in pieces of `hardware.device_batch`) and makes the whole
update.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from core.errors import UserError
from methods.contract import Sizes, Step
from methods.foresee.cards import Card
from methods.foresee.trace import Traced, trace
from methods.registry import fitting_variant, paper_gpus, resolve
from methods.run import make_method, readable_params
from methods.specs import HARDWARE, PAPER, Plan, StageSpec
from methods.training.devices import pieces_of

HOUR = 3600.0
TERA = 1e12


@dataclass(frozen=True)
class ForeseenStage:
    """One stage. users: the settings that need it. reason: what is not foreseen and why, or empty.

    traced: a step of one of the `gpus` cards that share the training, with its part of the batch; None where nothing is
    foreseen. batch: samples of a step of all of them. reached: FLOPs a second that a card is expected to make. own: of
    the batch, what the paper has on each GPU; 0 at other scales.
    """

    stage: str
    users: tuple[str, ...]
    reason: str
    traced: Traced | None = None
    batch: int = 0
    steps: int = 0
    reached: float = 0.0
    gpus: int = 1
    own: int = 0

    @property
    def step_flops(self) -> float:
        """Forward and backward of all cards, without their updates: each card makes the whole update."""
        return self.traced.flops * self.gpus if self.traced else 0.0

    @property
    def samples(self) -> int:
        """Examples drawn in the whole training."""
        return self.batch * self.steps

    @property
    def flops(self) -> float:
        """Of the whole training, on all cards."""
        return (self.step_flops + self.traced.optimiser_flops * self.gpus) * self.steps if self.traced else 0.0

    @property
    def gpu_hours(self) -> float:
        """Of the whole training: hours on one card, or the sum over the cards that share it."""
        return self.flops / self.reached / HOUR if self.traced else 0.0


@dataclass(frozen=True)
class ForeseenGeneration:
    """One setting's generation, of one mesh: FLOPs by part, and the seconds of a card that reaches its share."""

    setting: str
    reason: str
    flops: dict[str, float]
    seconds: float


def foresee(
    settings: Iterable[tuple[str, str]],
    scale: str,
    sizes: Sizes,
    card: Card,
    utilisation: float,
    told: Callable[[str], None] = lambda _: None,
    gpus: int = 1,
) -> tuple[list[ForeseenStage], list[ForeseenGeneration]]:
    """The stages (each once, in the order in which they are trained) and the settings' generation, foreseen.

    settings: (method, variant). told: is handed what is counted next, for a progress line. gpus: cards that share each
    training. Raises UserError for an unknown setting or scale, a utilisation outside of (0, 1], or a number of cards
    that does not divide a stage's batch.
    """
    if not 0 < utilisation <= 1:
        raise UserError(f"--utilisation is {utilisation:g}: it is a share of the card's peak, above 0 and at most 1")
    plans = [resolve(method, variant, scale) for method, variant in settings]
    reached = card.tflops * TERA * utilisation
    found: dict[str, StageSpec] = {}
    users: dict[str, list[str]] = {}
    for plan in plans:
        for stage in plan.stages:
            found.setdefault(stage.folder_name, stage)
            users.setdefault(stage.folder_name, []).append(plan.setting)
    stages = []
    for name, stage in found.items():
        told(name)
        stages.append(_stage(stage, scale, sizes, tuple(users[name]), reached, gpus))
    generations = []
    for plan in plans:
        told(f"generation of {plan.setting}")
        generations.append(_generation(plan, sizes, reached))
    return stages, generations


def _stage(
    stage: StageSpec, scale: str, sizes: Sizes, users: tuple[str, ...], reached: float, gpus: int
) -> ForeseenStage:
    step = made_up_step(stage, scale, sizes, batch=None, device="meta")
    if step is None:
        return ForeseenStage(stage.folder_name, users, f"{stage.owner} has no step_of, so nothing is foreseen")
    batch, steps = step.training["batch"], step.training["steps"]
    if batch % gpus:
        raise UserError(
            f"--gpus is {gpus}, and the batch of {stage.name} is {batch}: give a number of cards that divides it"
        )
    variant = fitting_variant(stage, scale)
    own = batch // paper_gpus(stage.owner, variant, scale) if scale == PAPER else 0
    hardware = resolve(stage.owner, variant, scale).params.get(HARDWARE, {})
    pieces = pieces_of(batch // gpus, hardware.get("device_batch"))
    if gpus * pieces > 1:
        step = made_up_step(stage, scale, sizes, batch=batch // gpus // pieces, device="meta")
    if step.training["precision"] != "bf16":
        reason = f"trains in {step.training['precision']}, and the peaks of cards are of bf16: no hours are foreseen"
        reached = float("inf")
    else:
        reason = ""
    traced = trace(step)  # of one piece, whose gradients add up to those of the card's part
    traced = dataclasses.replace(traced, flops=traced.flops * pieces)
    return ForeseenStage(stage.folder_name, users, reason, traced, batch, steps, reached, gpus, own)


def made_up_step(stage: StageSpec, scale: str, sizes: Sizes, *, batch: int | None, device: str) -> Step | None:
    """A step of a stage by the method that trains it, with the params that its fit would have; None without `step_of`.

    batch: the configured one if None.
    """
    plan = resolve(stage.owner, fitting_variant(stage, scale), scale)
    step_of = getattr(make_method(plan.method, readable_params(plan, stage.name)), "step_of", None)
    if step_of is None:
        return None
    upstream = {need: plan.stage(need).params for need in stage.needs}
    return step_of(stage.name, sizes, upstream=upstream, batch=batch, device=device)


def foresee_kept(settings: Iterable[tuple[str, str]], scale: str, views: int) -> tuple[dict[str, float], float | None]:
    """Bytes kept of that many training views, by name (what several settings keep is shared), and `hardware.memory_gb`.

    The latter is the least of the settings', None where none says one.
    """
    kept: dict[str, float] = {}
    rooms: list[float] = []
    for method, variant in settings:
        plan = resolve(method, variant, scale)
        kept_bytes = getattr(make_method(plan.method, plan.params), "kept_bytes", None)
        for name, size in (kept_bytes(views) if kept_bytes else {}).items():
            kept[name] = max(kept.get(name, 0.0), size)
        if "memory_gb" in plan.params.get(HARDWARE, {}):
            rooms.append(plan.params[HARDWARE]["memory_gb"])
    return kept, min(rooms, default=None)


def _generation(plan: Plan, sizes: Sizes, reached: float) -> ForeseenGeneration:
    object_flops = getattr(make_method(plan.method, plan.params), "object_flops", None)
    if object_flops is None:
        reason = f"{plan.method.name} has no object_flops, so nothing is foreseen"
        return ForeseenGeneration(plan.setting, reason, {}, 0.0)
    flops = dict(object_flops({stage.name: stage.params for stage in plan.stages}, sizes))
    return ForeseenGeneration(plan.setting, "", flops, sum(flops.values()) / reached)
