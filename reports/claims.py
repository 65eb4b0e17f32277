"""The paper's claims (`claims.yaml`), each judged on rows: a line with the effect, its interval, and a verdict.

What a verdict means stands in `reports/verdicts.py`, and for a reader in docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import UserError
from core.yaml_files import read_yaml, validate
from evaluation import protocol as protocols
from evaluation.protocol import Protocol
from reports import comparison, contrast, published, rows
from reports.comparison import CONTEXT, COUNTS, INTERVAL
from reports.contrast import Contrast
from reports.settings import planned
from reports.verdicts import NOT_RUN, Evidence, judge

FILE = Path(__file__).with_name("claims.yaml")
SCHEMA = Path(__file__).with_name("claims.schema.yaml")
COLUMNS = (
    "claim", "says", "source", "note", "metric", "expression",
    "published", *(f"effect{suffix}" for suffix in INTERVAL), "p", "p_holm", "family", "verdict",
    *COUNTS, *CONTEXT, "status", "rows_hash",
)  # fmt: skip


def read(path: Path = FILE) -> dict[str, Any]:
    """The claims. Raises UserError for an unknown key or protocol, and for an expression that is none."""
    spec = read_yaml(path)
    validate(spec, SCHEMA, f"reports/{path.name}")
    for name, claim in spec["claims"].items():
        try:
            contrast.parse(claim["expression"])
            if "protocol" in claim:
                protocols.load(claim["protocol"])
        except UserError as error:
            raise UserError(f"reports/{path.name}: {name}: {error}") from error
    return spec


def table(
    all_rows: pd.DataFrame, spec: Mapping[str, Any], protocol: Protocol, printed: Mapping[str, Any]
) -> pd.DataFrame:
    """One line for each claim, columns `COLUMNS`, in the order of the file.

    all_rows: of `reports.rows.read`. protocol: of the claims that name none; each is judged on the rows of its own
    alone, and its line says which. printed: the published numbers. A claim of which a setting has no rows is `not run`;
    one of which a setting failed on every object is `not run` too, and its status says `failed`. Single failed objects
    count with the worst values. Raises UserError where the settings of a claim were scored on other objects, and for
    rows of a protocol under which nothing is judged.
    """
    recipes = {name: protocol_of(claim, protocol) for name, claim in spec["claims"].items()}
    context = _context(all_rows, [protocol.name, *(recipe.name for recipe in recipes.values())])
    lines, family = {}, {}
    for name, claim in spec["claims"].items():
        stated, recipe = contrast.parse(claim["expression"]), recipes[name]
        under = all_rows[all_rows["protocol"] == recipe.name]
        parts = {setting: comparison.rows_of(under, planned(setting)) for setting in stated.weights}
        line = {"claim": name, "note": "", **claim, **context, "protocol": recipe.name, "verdict": NOT_RUN}
        line["published"] = published_effect(stated, claim["metric"], recipe, printed)
        line["status"] = _status(parts)
        if line["status"].startswith("ok"):
            found = effects(stated, parts, claim["metric"], recipe)
            family[name] = Evidence(found, stated.sign)
            mine = pd.concat(list(parts.values())).sort_values(list(rows.IDENTITY))
            line |= {**comparison.counts(mine), "rows_hash": comparison.hash_of(mine, recipe)}
            line["n_seeds"] = min(found.shape[1], *(part["seed"].nunique() for part in parts.values()))
        else:
            line |= dict.fromkeys(COUNTS, 0) | {"rows_hash": ""}
        lines[name] = line
    failed = sum(line["status"].startswith("failed") for line in lines.values())
    for name, found in judge(family, level=spec["level"], test=comparison.effect_of, failed=failed).items():
        effect = found.effect
        lines[name] |= {"effect": effect.mean, "effect_low": effect.low, "effect_high": effect.high}
        lines[name] |= {"p": effect.p, "p_holm": found.p_holm, "family": len(family) + failed, "verdict": found.verdict}
    frame = comparison.frame_of(list(lines.values()), COLUMNS)
    return frame.astype({"family": "Int64"})


def protocol_of(claim: Mapping[str, Any], default: Protocol) -> Protocol:
    """The protocol under which a claim is judged: what it names, or the default."""
    name = claim.get("protocol", default.name)
    return default if name == default.name else protocols.load(name)


def _context(all_rows: pd.DataFrame, known: Sequence[str]) -> dict[str, str]:
    """The first of the known protocols, and scale and dataset of the rows, which must be one each."""
    if other := sorted(set(all_rows["protocol"]) - set(known)):
        raise UserError(
            f"there are rows of protocol {', '.join(other)}, under which no claim is judged: leave them out, or give"
            " the claims that are about them this `protocol` in reports/claims.yaml"
        )
    return {"protocol": known[0]} | {name: rows.one(all_rows, name) for name in CONTEXT if name != "protocol"}


def effects(stated: Contrast, parts: Mapping[str, pd.DataFrame], metric: str, protocol: Protocol) -> np.ndarray:
    """Left minus right for each object and seed, (n_objects, n_seeds), in the protocol's unit.

    parts: the rows of each setting of the contrast.
    """
    tables = comparison.paired(parts, metric, protocol)
    return np.sum([weight * tables[name] for name, weight in stated.weights.items()], axis=0)


def published_effect(stated: Contrast, metric: str, protocol: Protocol, printed: Mapping[str, Any]) -> float:
    """The same difference of the numbers of the paper's Table 2; NaN where it does not print one of them."""
    total = 0.0
    for name, weight in stated.weights.items():
        paper = published.values(printed, "table2", planned(name).published, protocol)
        total += weight * paper.get(metric, float("nan"))
    return total


def _status(parts: Mapping[str, pd.DataFrame]) -> str:
    """`ok`, with how many rows of each setting failed; `failed: …` if all of one did; `not run: …` without rows."""
    absent = [name for name, part in parts.items() if not len(part)]
    broken = [name for name, part in parts.items() if len(part) and not comparison.measured(part)]
    if broken:
        return "failed: " + "; ".join(f"{name}: {comparison.status(parts[name])}" for name in broken)
    if absent:
        return f"not run: no rows of {', '.join(absent)}"
    failed = {name: comparison.counts(part)["n_failed"] for name, part in parts.items()}
    some = ", ".join(f"{name} {count}" for name, count in failed.items() if count)
    return f"ok, failed: {some}" if some else "ok"
