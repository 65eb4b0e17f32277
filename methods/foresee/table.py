"""A plan as text, JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from methods.foresee.cards import Card
from methods.foresee.totals import ForeseenGeneration, ForeseenStage

GIGA = 1e9
TERA = 1e12
FEW_SAMPLES = 4
"""A card's part of a batch below which the stated share of its peak is not to be expected."""
MEMORY = ("weights", "gradients", "moments", "average", "frozen_bytes", "activations")


def stage_record(foreseen: ForeseenStage) -> dict[str, Any]:
    """One stage in full, lengths in bytes (of one card) and operations; None for what is not foreseen."""
    record: dict[str, Any] = {"stage": foreseen.stage, "settings": list(foreseen.users)}
    record["reason"], traced = foreseen.reason or None, foreseen.traced
    numbers = ("parameters", "frozen", "flops", "optimiser_flops", *MEMORY, "memory")
    as_measured = {"flops": "step_flops", "optimiser_flops": "optimiser_step_flops"}  # as in a manifest
    record |= {as_measured.get(name, name): getattr(traced, name, None) for name in numbers}
    record |= {"step_flops": foreseen.step_flops} if traced else {}
    record |= {"batch": foreseen.batch, "steps": foreseen.steps, "samples": foreseen.samples} if traced else {}
    return record | ({"training_flops": foreseen.flops, "gpu_hours": foreseen.gpu_hours} if traced else {})


def as_json(
    stages: Sequence[ForeseenStage], generations: Sequence[ForeseenGeneration], assumed: dict[str, Any]
) -> dict[str, Any]:
    """Everything: what was assumed, the stages, the generations, and the sum of GPU-hours."""
    return {
        "assumed": assumed,
        "stages": [stage_record(s) for s in stages],
        "generation": [
            {"setting": g.setting, "reason": g.reason or None, "flops": g.flops, "seconds_a_mesh": g.seconds}
            for g in generations
        ],
        "gpu_hours": sum(s.gpu_hours for s in stages),
    }


def as_csv(stages: Sequence[ForeseenStage]) -> str:
    """One line a stage; the settings that share it are joined by spaces."""
    records = [{**stage_record(s), "settings": " ".join(s.users)} for s in stages]
    columns = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_text(
    stages: Sequence[ForeseenStage],
    generations: Sequence[ForeseenGeneration],
    card: Card,
    gpus: int,
    utilisation: float,
    data: float = 0.0,
) -> str:
    """Two tables and the sum. Parameters in millions, memory in GB (10^9 bytes), of each of `gpus` cards.

    data: the most bytes of prepared data that lie on a card beside a training.
    """
    head = ["stage", "params", "weights", "grads", "moments", "ema", "frozen", "activ.", "sum GB"]
    head += ["batch", "TFLOP/step", "steps", "samples", "GPU-hours"]
    rows, notes = [head], []
    for s in stages:
        if s.reason:
            notes.append(f"{s.stage}: {s.reason}")
        if s.traced is None:
            rows.append([s.stage, *["-"] * (len(head) - 1)])
            continue
        t = s.traced
        memory = [f"{getattr(t, name) / GIGA:.2f}" for name in MEMORY]
        mark = " !" if t.memory / GIGA > card.memory_gb else ""
        rows.append([s.stage, f"{t.parameters / 1e6:.1f} M", *memory, f"{t.memory / GIGA:.1f}{mark}"])
        rows[-1] += [f"{s.batch}", f"{s.flops / s.steps / TERA:.3g}", f"{s.steps:,}", f"{s.samples:,}"]
        rows[-1] += ["-" if s.reason else hours(s.gpu_hours)]
    too_large = [s.stage for s in stages if s.traced and s.traced.memory / GIGA > card.memory_gb]
    if too_large:
        notes.append(
            f"! more than the {card.memory_gb:g} GB of {card.label}: share its batch among more cards (--gpus)"
        )
    room = card.memory_gb * GIGA - data
    crowded = [s.stage for s in stages if s.traced and room < s.traced.memory <= card.memory_gb * GIGA]
    if crowded:
        notes.append(
            f"beside up to {data / GIGA:.1f} GB of prepared data a step may not fit the {card.memory_gb:g} GB of"
            f" {card.label}: {', '.join(crowded)}; lower hardware.memory_gb, or hardware.device_batch"
        )
    made = [["generation of one mesh", "sample TFLOP", "decode TFLOP", "GPU-seconds"]]
    for g in generations:
        if g.reason:
            notes.append(f"{g.setting}: {g.reason}")
            continue
        made.append([g.setting, *(f"{g.flops.get(k, 0) / TERA:.3g}" for k in ("sample", "decode")), f"{g.seconds:.3g}"])
    total = sum(s.gpu_hours for s in stages)
    if gpus > 1:
        notes.append(f"memory is of each of {gpus} cards, which share the batch of a training")
        fewer = [s.stage for s in stages if s.traced and s.batch // gpus < s.own]
        if fewer:
            notes.append(
                f"less on a card than the paper has on each GPU: {', '.join(fewer)}; `paper_gpus: {gpus}` in"
                f" methods/mar3d/config.yaml gives each of {gpus} cards the paper's batch, for as many epochs"
            )
        few = [s.stage for s in stages if s.traced and s.batch // gpus < FEW_SAMPLES]
        if few:
            notes.append(
                f"fewer than {FEW_SAMPLES} samples a card, so launches and gradients on their way weigh more than"
                f" foreseen, and hours are a lower bound: {', '.join(few)}; fewer cards each, side by side, lose less"
            )
    share = f"{utilisation:.0%} of {card.tflops:g} TFLOP/s ({card.label}, dense bf16)"
    lines = [*aligned(rows), "", f"training: {hours(total)} GPU-hours at {share}"]
    lines[-1] += f"; {total / gpus:,.1f} hours on {gpus} cards that lose nothing" if gpus > 1 else ""
    if len(made) > 1:
        lines += ["", *aligned(made)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def hours(value: float) -> str:
    """Hours with one decimal, and a small number with three digits."""
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zipped))
        for zipped in (list(zip(row, widths, strict=True)) for row in rows)
    ]
