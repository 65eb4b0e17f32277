"""Table S1: the numbers behind Figure 5, (a) to (h) and rectified flow, under three kinds of matching.

The paper shows MAR-3D beside a diffusion transformer (DiT) on the same latents and leaves the numbers to its
supplement. `table_s1.yaml` says which setting stands in which column under which matching. Each DiT column has its
paired difference to the MAR column of the same design. What makes a matching one stands beside the scores: parameters
and training FLOPs from the manifests of the stages, FLOPs of sampling from the generation's, seconds from the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.yaml_files import read_yaml
from evaluation.protocol import Protocol
from reports import comparison, markdown
from reports.comparison import CONTEXT, COUNTS, DIFFERENCE, INTERVAL, METRICS, SUMMARY
from reports.costs import costs
from reports.schedules import refuse_unknown
from reports.settings import Setting, planned

FILE = Path(__file__).with_name("table_s1.yaml")
FLOPS = ("training_flops", "all_training_flops", "sampling_flops")
COSTS = ("parameters", *FLOPS, *(f"seconds{suffix}" for suffix in INTERVAL))
COLUMNS = (
    "matching", "column", "setting", "method", "variant", "against",
    *(f"{metric}{suffix}" for metric in METRICS for suffix in (*SUMMARY, *DIFFERENCE)),
    *COSTS, *COUNTS, *CONTEXT, "status", "rows_hash",
)  # fmt: skip


def read(path: Path = FILE) -> dict[str, Any]:
    """The file."""
    return read_yaml(path)


def settings(spec: Mapping[str, Any], matching: str) -> dict[str, Setting]:
    """The setting of every column under a matching."""
    return {
        column["column"]: planned(column.get("setting") or column["settings"][matching], column["label"])
        for column in spec["columns"]
    }


def table(
    all_rows: pd.DataFrame,
    spec: Mapping[str, Any],
    configured: Sequence[str],
    protocol: Protocol,
    root: Path | None = None,
) -> pd.DataFrame:
    """One line for each matching and column, columns `COLUMNS`; what has no rows is `not run`.

    all_rows: of `reports.rows.read`. configured: the settings that this run has; one that `spec` does not know is a
    UserError. root: the folder of the dataset and scale under runs/; without it, parameters and FLOPs are empty.
    """
    context = comparison.context(all_rows, protocol)
    names = [setting.name for matching in spec["matchings"] for setting in settings(spec, matching).values()]
    refuse_unknown(configured, names, FILE.name)
    return comparison.frame_of(list(_lines(all_rows, spec, protocol, root, context)), COLUMNS)


def _lines(
    all_rows: pd.DataFrame,
    spec: Mapping[str, Any],
    protocol: Protocol,
    root: Path | None,
    context: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    known: dict[tuple[str, str], dict[str, Any]] = {}  # MAR's settings stand under every matching
    for matching in spec["matchings"]:
        chosen = settings(spec, matching)
        for column in spec["columns"]:
            setting, against = chosen[column["column"]], column.get("against")
            mine = comparison.rows_of(all_rows, setting)
            line: dict[str, Any] = {"matching": matching, "column": column["column"], "setting": setting.label}
            line |= {"method": setting.method, "variant": setting.variant, "against": against or "", **context}
            line |= {**comparison.counts(mine), "status": comparison.status(mine, absent="not run")}
            line["rows_hash"] = comparison.hash_of(mine, protocol)
            base, pair = chosen[against] if against else None, (setting.name, against or "")
            if pair not in known:
                known[pair] = comparison.measurements(all_rows, setting, base, protocol)
                known[pair] |= comparison.seconds(mine, setting, context)
                known[pair] |= costs(root, setting) if root and len(mine) else {}
            yield line | known[pair]


def page(frame: pd.DataFrame, protocol: Protocol) -> str:
    """The table as Markdown, one part for each matching."""
    titles, headings = comparison.metric_titles(protocol), read()["matchings"]
    header = ["", "setting"]
    for metric in METRICS:
        header += [titles[metric], "− MAR"]
    header += ["parameters", "training FLOPs", "with the optimiser's", "FLOPs a sample", "seconds a sample"]
    header += ["objects", "seeds", "status"]
    text = (
        f"Table S1: {markdown.of(frame.iloc[0])}. The numbers behind Figure 5. Mean over objects with its 95 %"
        " bootstrap interval; failed objects count with the worst values.\n"
        "− MAR: paired difference to the MAR column of the same design ((a) and flow to (e), (b) to (f), (c) to (g),"
        " (d) to (h)). Parameters and training FLOPs: of the generator's stages, without the VAE that all share."
        " Matched are forward and backward passes; an optimiser like Muon adds products of its own. A sample: the"
        " latents of one object; its seconds are as the machine was loaded then, so FLOPs compare better.\n"
        "Guidance was searched for every design, the learning rate for MAR and DiT-LR alone, whose rate the other DiT"
        " settings take; all at `cpu`, on procedural shapes (methods/dit/README.md).\n"
    )
    for matching, part in frame.groupby("matching", sort=False):
        lines = []
        for _, row in part.iterrows():
            name = f"({row['column']})" if len(row["column"]) == 1 else ""
            cells = [name, str(row["setting"])]
            for metric in METRICS:
                cells += [markdown.interval(row, metric), markdown.interval(row, f"{metric}_difference", sign=True)]
            cells += [_large(row[cost]) for cost in ("parameters", *FLOPS)]
            cells.append(markdown.interval(row, "seconds"))
            cells += [str(row["n_objects"]), str(row["n_seeds"]), markdown.escaped(row["status"])]
            lines.append(cells)
        text += f"\nMatched by {headings[matching]}\n\n{markdown.grid(header, lines)}"
    return text


def _large(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"
