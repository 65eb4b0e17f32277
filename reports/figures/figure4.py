"""Figure 4: how well the VAE rebuilds the true shape against its number of tokens, for three kinds of levels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from core.errors import UserError
from core.randomness import numpy_rng
from evaluation.protocol import Protocol
from evaluation.statistics import Effect, bootstrap_mean
from methods import registry
from methods.vae_study.tokens import KINDS, token_counts
from reports import comparison, rows
from reports.costs import parameters
from reports.figures.style import MARKS, note
from reports.settings import planned

METHOD = "vae_study"
LABELS = {"pyramid": "pyramid", "single": "single level", "triple": "three cross-attentions on the same points"}
COUNTS = {"quarter_lr": "LR/4", "lr": "LR", "half_hr": "HR/2", "hr": "HR", "twice_hr": "2×HR"}
BASE = KINDS[0]
"""What the other kinds are compared with, object by object: the paper's."""
COLUMNS = (
    "kind", "count", "tokens", "parameters", "method", "variant", "metric", "mean", "low", "high",
    "difference", "difference_low", "difference_high", "p",
    "n_objects", "n_seeds", "n_failed", "dataset", "scale", "protocol", "rows_hash",
)  # fmt: skip
BOXES = {"longest_side": "a box for each mesh", "truth": "one box for both meshes", "none": "no box"}
HEIGHT = 2.75  # inches
DODGE = 1.06  # kinds stand apart on the axis by this factor, so that intervals do not hide each other
TWIN = 1.02  # and banks of one size of a kind by this one


def counts_at(scale: str) -> dict[str, int]:
    """Tokens of each count at a scale."""
    return token_counts(registry.resolve(METHOD, f"{KINDS[0]}_hr", scale).params)


def metrics(protocol: Protocol) -> tuple[str, str]:
    """The two columns that are drawn: Chamfer distance and volume IoU at the finest grid."""
    if not protocol.viou:
        raise UserError(
            f"figure4 shows volume IoU, which protocol {protocol.name} does not measure; take another protocol"
        )
    return protocol.report.cd, f"viou_{max(protocol.viou)}"


def points(
    all_rows: pd.DataFrame, protocol: Protocol, tokens: Mapping[str, int], root: Path | None = None
) -> pd.DataFrame:
    """One line for each kind, count and metric, columns `COLUMNS`: the mean over objects with its interval, and the
    paired difference to the pyramid of the same count with the interval and the p-value of one test alone.

    tokens: of each count. root: the folder of the dataset and scale under runs/; without it, parameters are empty. A
    variant without rows has no line. Raises UserError if none has any.
    """
    context = {name: rows.one(all_rows, name) for name in ("dataset", "scale", "protocol")}
    lines = []
    for kind in KINDS:
        for count, number in tokens.items():
            setting = planned(f"{METHOD}/{kind}_{count}")
            mine = comparison.rows_of(all_rows, setting)
            if mine.empty:
                continue
            base = comparison.rows_of(all_rows, planned(f"{METHOD}/{BASE}_{count}"))
            about = {"kind": kind, "count": count, "tokens": number, "method": METHOD, "variant": setting.variant}
            about |= {**context, **comparison.counts(mine), "rows_hash": comparison.hash_of(mine, protocol)}
            about["parameters"] = parameters(root, setting) if root else float("nan")
            for metric in metrics(protocol):
                names = (*context.values(), kind, count, metric)
                found = bootstrap_mean(values(mine, metric, protocol), rng=numpy_rng("figure4", *names))
                line = {"metric": metric, "mean": found.mean, "low": found.low, "high": found.high}
                if kind != BASE and len(base):
                    gap = difference(mine, base, metric, protocol)
                    line |= {"difference": gap.mean, "difference_low": gap.low, "difference_high": gap.high, "p": gap.p}
                lines.append({**about, **line, "n_objects": found.n})
    if not lines:
        raise UserError(f"the rows hold no variant of {METHOD}; run it first")
    return pd.DataFrame(lines, columns=list(COLUMNS))


def values(mine: pd.DataFrame, metric: str, protocol: Protocol) -> np.ndarray:
    """Of objects and seeds (n_objects, n_seeds), in the protocol's unit; volume IoU is NaN where the truth is open."""
    seeds = sorted(int(seed) for seed in mine["seed"].unique())
    undefined = mine[metric].isna().groupby(mine["object"]).any()  # sorted by object, as the matrix
    table = np.full((len(undefined), len(seeds)), np.nan)
    if not undefined.all():
        table[~undefined] = rows.matrix(mine[~mine["object"].map(undefined)], metric, seeds)[1]
    return table / (protocol.report.cd_unit if metric.startswith("cd") else 1.0)


def difference(mine: pd.DataFrame, base: pd.DataFrame, metric: str, protocol: Protocol) -> Effect:
    """Of two settings that were scored on the same objects and seeds. Raises UserError where they were not."""
    seen = [list(zip(part["object"], part["view"], part["seed"], strict=True)) for part in (mine, base)]
    if sorted(seen[0]) != sorted(seen[1]):
        raise UserError(f"variants of {METHOD} were scored on different objects, views or seeds; score all again")
    return comparison.effect_of(values(mine, metric, protocol) - values(base, metric, protocol))


def draw(made: Figure, table: pd.DataFrame, protocol: Protocol, *, dataset: str, scale: str) -> None:
    """Two panels beside each other: Chamfer distance and volume IoU."""
    below = note(made, caption(table, protocol, dataset, scale))
    cd, viou = metrics(protocol)
    unit = f", unit {protocol.report.cd_unit:g}" if protocol.report.cd_unit != 1 else ""
    cd_n, viou_n = (_range(table.loc[table["metric"] == metric, "n_objects"]) for metric in (cd, viou))
    names = {
        cd: f"{cd.replace('cd_', 'CD-')} ↓ (box [-1, 1]³{unit})",
        viou: f"volume IoU ↑ ({max(protocol.viou)}³ cells)",
    }
    titles = {cd: f"mean of n = {cd_n} objects", viou: f"mean of n = {viou_n} objects"}
    place = {"left": 0.08, "right": 0.995, "bottom": below + 0.165, "top": 0.82, "wspace": 0.22}
    axes = made.subplots(1, 2, gridspec_kw=place)
    ticks = tick_labels(table)
    for panel, metric in zip(axes, (cd, viou), strict=True):
        for shift, (kind, mark) in enumerate(zip(KINDS, MARKS, strict=True)):
            mine = table[(table["kind"] == kind) & (table["metric"] == metric)].sort_values("tokens")
            if mine.empty:
                continue
            twin = mine.groupby("tokens").cumcount()
            x, mean = mine["tokens"] * DODGE ** (shift - 1) * TWIN**twin, mine["mean"]
            ends = np.nan_to_num([mean - mine["low"], mine["high"] - mean])  # one object has no interval
            panel.errorbar(
                x, mean, ends.clip(0), label=_label(kind, mine), color=mark.colour, linestyle=mark.line,
                marker=mark.marker, markeredgecolor="white", markeredgewidth=0.4, elinewidth=0.8, capsize=2,
                capthick=0.8,
            )  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.margins(x=0.07)
        panel.xaxis.set_major_locator(FixedLocator(list(ticks)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels([f"{tokens}\n{label}" for tokens, label in ticks.items()])
        panel.set_xlabel("latent tokens (logarithmic)")
        panel.set_ylabel(names[metric])
        panel.set_title(titles[metric], loc="left")
    axes[0].set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="upper left", ncols=len(KINDS))  # above the panels: inside it would hide intervals


def _label(kind: str, mine: pd.DataFrame) -> str:
    """What a curve is called, with its millions of parameters where they are known."""
    millions = mine["parameters"].max() / 1e6
    return LABELS[kind] + ("" if np.isnan(millions) else f" ({millions:.2f} M)")


def tick_labels(table: pd.DataFrame) -> dict[int, str]:
    """Each number of tokens with its names, in order: counts that come to the same number at a scale share a place."""
    numbers = table.drop_duplicates("count").set_index("count")["tokens"]
    return {n: " = ".join(COUNTS[c] for c in COUNTS if numbers.get(c) == n) for n in sorted(set(numbers))}


def caption(table: pd.DataFrame, protocol: Protocol, dataset: str, scale: str) -> str:
    """What stands under the panels."""
    seeds, failed = _range(table["n_seeds"]), int(table.drop_duplicates(["kind", "count"])["n_failed"].sum())
    lost = f" {failed} failed reconstructions count with the worst values." if failed else ""
    return (
        f"Bars: 95 % bootstrap intervals over objects{' and seeds' if seeds != '1' else ''}; seeds: {seeds}.{lost}"
        f" Points of one count stand side by side.{_coinciding(table)}{_open(table, protocol)}"
        " The axis of the IoU does not begin at 0. Paired differences to the pyramid stand in figure4.csv."
        " Each kind is one VAE (in brackets: its parameters) with a bank of queries for each count, all else shared;"
        " the posterior mean is decoded."
        f" Dataset {dataset}, scale {scale}, protocol {protocol.name} ({placing(protocol)})."
    )


def _coinciding(table: pd.DataFrame) -> str:
    """A sentence for each number of tokens at which one kind has several banks, since counts come to it; or nothing."""
    banks = table.drop_duplicates(["kind", "count"]).groupby(["tokens", "kind"]).size().groupby("tokens").max()
    words = {2: "two", 3: "three"}
    return "".join(
        f" At {tokens} tokens {words.get(number, number)} banks of the same size are drawn."
        for tokens, number in banks.items()
        if number > 1
    )


def _open(table: pd.DataFrame, protocol: Protocol) -> str:
    """A sentence where the volume IoU is of fewer objects than the Chamfer distance; or nothing."""
    cd, viou = (int(table.loc[table["metric"] == metric, "n_objects"].max()) for metric in metrics(protocol))
    return f" {cd - viou} of {cd} true meshes are open: they have no inside, and no IoU." if viou < cd else ""


def placing(protocol: Protocol) -> str:
    """How the protocol places the two meshes before it measures, in words."""
    return f"{BOXES[protocol.normalise]}, {'not aligned' if protocol.align.starts == 'none' else 'aligned'}"


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"
