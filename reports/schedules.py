"""Sweeps of MAR-3D's sampling: decoding schedule, steps, guidance, condition augmentation at inference.

`schedules.yaml` says which setting is which value of which sweep. All use the weights of the base, so that what
differs is the sampling and its random draws. A setting whose parameters at this scale are those of the base (16 steps,
where the base has 16) differs by its draws alone: its difference shows how much the draws weigh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import UserError, known
from core.yaml_files import read_yaml
from evaluation.protocol import Protocol
from methods import registry, specs
from reports import comparison, markdown
from reports.comparison import CONTEXT, COUNTS, DIFFERENCE, INTERVAL, METRICS, SUMMARY
from reports.settings import planned

FILE = Path(__file__).with_name("schedules.yaml")
COLUMNS = (
    "sweep", "value", "setting", "method", "variant", "as_base", "steps_lr", "steps_hr",
    *(f"{metric}{suffix}" for metric in METRICS for suffix in (*SUMMARY, *DIFFERENCE)),
    *(f"seconds{suffix}" for suffix in INTERVAL),
    *COUNTS, *CONTEXT, "status", "rows_hash",
)  # fmt: skip


def read(path: Path = FILE) -> dict[str, Any]:
    """The file."""
    return read_yaml(path)


def table(
    all_rows: pd.DataFrame, spec: Mapping[str, Any], configured: Sequence[str], protocol: Protocol
) -> pd.DataFrame:
    """One line for each value of each sweep, columns `COLUMNS`; `as_base` is 1 where the parameters are the base's.

    steps_lr, steps_hr: the autoregressive steps that are made, one a token at most.

    all_rows: of `reports.rows.read`. configured: the settings that this run has; one that `spec` does not know is a
    UserError, one of `spec` without rows stands as `not run`.
    """
    context = comparison.context(all_rows, protocol)
    base = planned(spec["base"])
    entries = [(sweep["sweep"], entry) for sweep in spec["sweeps"] for entry in sweep["settings"]]
    refuse_unknown(configured, [spec["base"], *(entry["setting"] for _, entry in entries)], FILE.name)
    lines = []
    for sweep, entry in entries:
        setting = planned(entry["setting"])
        mine = comparison.rows_of(all_rows, setting)
        line: dict[str, Any] = {"sweep": sweep, "value": entry["value"], "setting": setting.label}
        line |= {"method": setting.method, "variant": setting.variant}
        line |= {"as_base": int(same_params(entry["setting"], spec["base"], context["scale"])), **context}
        line |= {**comparison.counts(mine), "status": comparison.status(mine, absent="not run")}
        line["rows_hash"] = comparison.hash_of(mine, protocol)
        line |= dict(zip(("steps_lr", "steps_hr"), steps_made(entry["setting"], context["scale"]), strict=True))
        line |= comparison.seconds(mine, setting, context)
        lines.append(line | comparison.measurements(all_rows, setting, base, protocol))
    return comparison.frame_of(lines, COLUMNS)


def page(frame: pd.DataFrame, protocol: Protocol) -> str:
    """The table as Markdown."""
    titles = comparison.metric_titles(protocol)
    header = ["sweep", "value", "setting", "LR + HR steps"]
    for metric in METRICS:
        header += [titles[metric], "− base"]
    lines, before = [], ""
    for _, row in frame.iterrows():
        setting = f"{row['method']}/{row['variant']}" + (" (the base's parameters)" if row["as_base"] else "")
        steps = f"{row['steps_lr']} + {row['steps_hr']}"
        cells = [row["sweep"] if row["sweep"] != before else "", str(row["value"]), setting, steps]
        for metric in METRICS:
            cells += [markdown.interval(row, metric), markdown.interval(row, f"{metric}_difference", sign=True)]
        cells.append(markdown.interval(row, "seconds"))
        lines.append([*cells, *(str(row[name]) for name in ("n_objects", "n_seeds")), markdown.escaped(row["status"])])
        before = row["sweep"]
    caption = (
        f"Schedules: {markdown.of(frame.iloc[0])}. Mean over objects with its 95 % bootstrap interval; failed objects"
        " count with the worst values. All settings use the same weights.\n"
        "− base: paired difference to `full` with its interval. Where a setting has the base's parameters at this"
        " scale, only its random draws are others. Steps: those made, one a token at most, whatever was asked for."
        " Seconds: of the latents of one object, as the machine was loaded then.\n\n"
    )
    return caption + markdown.grid([*header, "seconds a sample", "objects", "seeds", "status"], lines)


def steps_made(name: str, scale: str) -> tuple[int, int]:
    """Autoregressive steps of MAR-LR and MAR-HR: as asked for, but each reveals a token, so no more than there are."""
    params = registry.resolve(*specs.parse_setting(name), scale).params
    made = (min(params["sampling"][bank]["steps"], params["latent"]["tokens"][bank]) for bank in ("lr", "hr"))
    return tuple(made)


def same_params(name: str, base: str, scale: str) -> bool:
    """Whether a setting resolves to the parameters and stages of another; False for one that no method offers."""
    try:
        one, other = (registry.resolve(*specs.parse_setting(text), scale) for text in (name, base))
    except UserError:
        return False
    return one.method.name == other.method.name and one.params == other.params and one.stages == other.stages


def refuse_unknown(configured: Sequence[str], planned_names: Sequence[str], file: str) -> None:
    """UserError for a configured setting that the file of a report does not know: it would be run and not shown."""
    for name in configured:
        if name not in planned_names:
            raise UserError(f"reports/{file}: {known('setting', name, dict.fromkeys(planned_names))}")
