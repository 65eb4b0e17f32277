"""Figure 4: how well the VAE rebuilds the true shape against its number of tokens, for three kinds of levels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from core.errors import UserError
from core.randomness import numpy_rng
from evaluation.protocol import Protocol
from evaluation.statistics import bootstrap_mean
from methods import registry
from methods.vae_study.tokens import KINDS, token_counts
from reports import comparison, rows
from reports.figures.style import MARKS, note

METHOD = "vae_study"
LABELS = {"pyramid": "pyramid", "single": "single level", "triple": "three cross-attentions on the same points"}
COUNTS = {"quarter_lr": "LR/4", "lr": "LR", "half_hr": "HR/2", "hr": "HR", "twice_hr": "2×HR"}
COLUMNS = (
    "kind", "count", "tokens", "method", "variant", "metric", "mean", "low", "high",
    "n_objects", "n_seeds", "n_failed", "dataset", "scale", "protocol", "rows_hash",
)  # fmt: skip
BOXES = {"longest_side": "a box for each mesh", "truth": "one box for both meshes", "none": "no box"}
HEIGHT = 2.75  # inches
DODGE = 1.06  # neighbours on the axis stand apart by this factor, so that intervals do not hide each other


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


def points(all_rows: pd.DataFrame, protocol: Protocol, tokens: Mapping[str, int]) -> pd.DataFrame:
    """One line for each kind, count and metric: the mean over objects with its interval; columns `COLUMNS`.

    tokens: of each count. A variant without rows has no line. Raises UserError if none has any.
    """
    context = {name: rows.one(all_rows, name) for name in ("dataset", "scale", "protocol")}
    lines = []
    for kind in KINDS:
        for count, number in tokens.items():
            mine = all_rows[(all_rows["method"] == METHOD) & (all_rows["variant"] == f"{kind}_{count}")]
            if mine.empty:
                continue
            failed = int((mine["status"] != "ok").sum())
            for metric in metrics(protocol):
                seeds = sorted(mine["seed"].unique())
                defined = mine.dropna(subset=[metric])  # volume IoU is not, where the true mesh is open
                values = rows.matrix(defined, metric, seeds)[1] if len(defined) else np.empty((0, len(seeds)))
                unit = protocol.report.cd_unit if metric.startswith("cd") else 1.0
                found = bootstrap_mean(values / unit, rng=numpy_rng("figure4", *context.values(), kind, count, metric))
                about = {"kind": kind, "count": count, "tokens": number, "metric": metric, **context}
                about |= {"method": METHOD, "variant": f"{kind}_{count}"}
                about["rows_hash"] = comparison.hash_of(mine, protocol)
                numbers = {"mean": found.mean, "low": found.low, "high": found.high, "n_objects": found.n}
                lines.append({**about, **numbers, "n_seeds": len(seeds), "n_failed": failed})
    if not lines:
        raise UserError(f"the rows hold no variant of {METHOD}; run it first")
    return pd.DataFrame(lines, columns=list(COLUMNS))


def draw(made: Figure, table: pd.DataFrame, protocol: Protocol, *, dataset: str, scale: str) -> None:
    """Two panels beside each other: Chamfer distance and volume IoU."""
    below = note(made, caption(table, protocol, dataset, scale))
    cd, viou = metrics(protocol)
    unit = f", unit {protocol.report.cd_unit:g}" if protocol.report.cd_unit != 1 else ""
    cd_n, viou_n = (_range(table.loc[table["metric"] == metric, "n_objects"]) for metric in (cd, viou))
    names = {cd: f"{cd.replace('cd_', 'CD-')}{unit} ↓, box [-1, 1]³, mean of n = {cd_n} objects"}
    names |= {viou: f"volume IoU ↑, {max(protocol.viou)}³ cells, mean of n = {viou_n} objects"}
    place = {"left": 0.065, "right": 0.995, "bottom": below + 0.165, "top": 0.82, "wspace": 0.18}
    axes = made.subplots(1, 2, gridspec_kw=place)
    ticks = tick_labels(table)
    for panel, metric in zip(axes, (cd, viou), strict=True):
        for shift, (kind, mark) in enumerate(zip(KINDS, MARKS, strict=True)):
            mine = table[(table["kind"] == kind) & (table["metric"] == metric)].sort_values("tokens")
            if mine.empty:
                continue
            x, mean = mine["tokens"] * DODGE ** (shift - 1), mine["mean"]
            ends = np.nan_to_num([mean - mine["low"], mine["high"] - mean])  # one object has no interval
            panel.errorbar(
                x, mean, ends.clip(0), label=LABELS[kind], color=mark.colour, linestyle=mark.line, marker=mark.marker,
                elinewidth=0.8, capsize=2, capthick=0.8, markeredgecolor="white", markeredgewidth=0.4,
            )  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.margins(x=0.07)
        panel.xaxis.set_major_locator(FixedLocator(list(ticks)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels([f"{tokens}\n{label}" for tokens, label in ticks.items()])
        panel.set_xlabel("latent tokens (logarithmic)")
        panel.set_title(names[metric], loc="left")
    axes[0].set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="upper left", ncols=len(KINDS))  # above the panels: inside it would hide intervals


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
        " Each kind is one VAE with a bank of queries for each count, all else shared; the posterior mean is decoded."
        f" Dataset {dataset}, scale {scale}, protocol {protocol.name} ({placing(protocol)})."
    )


def _coinciding(table: pd.DataFrame) -> str:
    """A sentence for each number of tokens at which one kind has several banks, since counts come to it; or nothing."""
    banks = table.drop_duplicates(["kind", "count"]).groupby(["tokens", "kind"]).size().groupby("tokens").max()
    words = {2: "two", 3: "three"}
    return "".join(
        f" At {tokens} tokens {words.get(number, number)} banks of the same size are drawn, joined by a vertical line."
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
