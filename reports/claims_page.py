"""The page of the claims: what was claimed, what was measured, the verdict, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from evaluation import protocol as protocols
from evaluation.protocol import Protocol
from methods import registry
from reports import comparison, markdown
from reports.comparison import METRICS
from reports.settings import Setting, setting
from reports.verdicts import VERDICTS

ENOUGH_SEEDS = 5  # with fewer, Student's t with a degree of freedom less asks for a large effect: docs/claims.md


def render(
    frame: pd.DataFrame, all_rows: pd.DataFrame, protocol: Protocol, printed: Mapping[str, Any], level: float
) -> str:
    """The claims as Markdown: a summary, the claims, and where the judged method stands among the controls.

    protocol: of the claims that name none. level: the family-wise error that the verdicts were made with.
    """
    titles = {name: comparison.metric_titles(protocols.load(name)) for name in frame["protocol"].unique()}
    header = ["claim", "paper's source", "protocol", "as tested", "paper's effect"]
    header += ["measured effect [95 %]", "p", "p (Holm)", "objects", "seeds", "verdict"]
    lines = []
    for _, row in frame.iterrows():
        tested = markdown.escaped(f"{titles[row['protocol']][row['metric']][:-2]}: {row['expression']}")
        said = f"{row['says']} ({row['note']})" if row["note"] else row["says"]
        cells = [said, row["source"], row["protocol"], tested]
        cells.append(markdown.number(row["published"], sign=True) or "no number")
        cells += [markdown.interval(row, "effect", sign=True), _probability(row["p"]), _probability(row["p_holm"])]
        cells += [str(row["n_objects"] or ""), str(row["n_seeds"] or ""), _verdict(row)]
        lines.append(cells)
    counted = ", ".join(f"{int((frame['verdict'] == verdict).sum())} {verdict}" for verdict in VERDICTS)
    others = ", ".join(name for name in titles if name != protocol.name)
    of = markdown.of({**frame.iloc[0], "protocol": protocol.name})
    of += f" and, where the column says so, {others}" if others else ""
    text = f"Claims of the paper: {of}. {counted}.\n\n"
    text += markdown.grid(header, lines)
    return "\n".join([text, *_reading(frame, printed, level), *_standing(all_rows, protocol)])


def _verdict(row: pd.Series) -> str:
    """The word, and beside it what a reader must know of the rows."""
    word = f"**{row['verdict']}**"
    if row["status"] == "ok":
        return word
    reason = row["status"].removeprefix("not run: ").removeprefix("ok, ")
    return f"{word} ({markdown.escaped(reason)})"


def _probability(value: float) -> str:
    return "" if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _reading(frame: pd.DataFrame, printed: Mapping[str, Any], level: float) -> list[str]:
    judged = frame[frame["family"].notna()]
    family = int(judged["family"].iloc[0]) if len(judged) else 0
    seeds = sorted({int(number) for number in judged["n_seeds"]})
    notes = [
        "Effect: left side minus right side of the tested inequality, object by object, mean with the 95 % interval of"
        " the paired bootstrap; failed objects count with the worst values. LR, HR tokens: the counts of this scale.",
        "Verdict: *reproduced* or *contradicted* if the effect differs from 0 in the claimed or in the other direction,"
        f" with a family-wise error of at most {100 * level:g} % (Holm, {family} claims judged); else *inconclusive*,"
        " which is not evidence of no effect. p and interval are of one claim alone: the interval leaves out 0 where p"
        " is below 0.05, and the verdict may be inconclusive all the same.",
        "All of it holds for this dataset, this scale and the protocol of its line, and says nothing of other sizes.",
    ]
    if seeds[:1] == [1]:
        notes.append(
            "Where there is one seed, the test is over objects, so that a verdict is of the models that were trained,"
            " not of what another training would give."
        )
    if seeds and 1 < seeds[-1] < ENOUGH_SEEDS:
        notes.append(
            f"Where there are {seeds[-1]} seeds, the test is over trainings too, and so few of them decide little"
            " (docs/claims.md, Seeds)."
        )
    notes.append(
        f"Paper's effect: the same difference in arXiv {printed['source']['arxiv']}, Table 2, on Google Scanned"
        " Objects, with other data and sizes than here; *no number*: the paper shows it in a figure or in words."
    )
    return [f"- {note}" for note in notes]


def _standing(all_rows: pd.DataFrame, protocol: Protocol) -> list[str]:
    """Where the judged method stands: a claim about a model that loses to retrieval is to be read with care."""
    all_rows = all_rows[all_rows["protocol"] == protocol.name]
    names = sorted(set(zip(all_rows["method"], all_rows["variant"], strict=True)))
    methods = registry.load_methods()
    controls = [
        f"{method}/{variant}"
        for method, variant in names
        if method in methods and methods[method].kind == "control" and variant == methods[method].first_variant
    ]
    chosen: list[Setting] = [setting(name) for name in ["mar3d/full", *controls]]
    titles, lines = comparison.metric_titles(protocol), []
    for one in chosen:
        found = comparison.measurements(all_rows, one, None, protocol)
        if found:
            count = comparison.counts(comparison.rows_of(all_rows, one))
            label = f"*{one.label}* ({one.control})" if one.control else one.label
            lines.append([label, *(markdown.interval(found, metric) for metric in METRICS), str(count["n_objects"])])
    header = ["setting", *(titles[metric] for metric in METRICS), "objects"]
    title = f"Where the judged method stands among the controls, protocol {protocol.name}:"
    return ["", title, "", markdown.grid(header, lines)]
