"""Rows that need an input which not every run is given: a finished run, clones, a package.

A run without it would turn what was measured into "not run". The rows of the earlier run stay instead, and each says
when, and of which code, it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]
"""A path's entry of a results file, as JSON."""


def with_older_rows(entry: Entry, before: Entry) -> dict[str, Any]:
    """`entry`, in which a row that could not be measured gives way to the rows measured in its place before."""
    if any(entry[name] != before[name] for name in ("quick", "scale", "device")):
        return dict(entry)
    left: dict[str, list[dict[str, Any]]] = {}
    for row in before["outcome"]["rows"]:
        if row["cost"] is not None:
            left.setdefault(_key(row), []).append({**row, "older": row.get("older") or when(before["machine"])})
    rows = []
    for row in entry["outcome"]["rows"]:
        rows += [row] if row["cost"] is not None else left.get(_key(row), [row])
    return {**entry, "outcome": {**entry["outcome"], "rows": rows}}


def when(about: Mapping[str, Any]) -> str:
    """Time and code of a run, and whether other work ran beside it, from its description of the machine."""
    git = about.get("git") or {}
    code = f", code {git['commit'][:7]}{' with changes' if git['dirty'] else ''}" if git.get("commit") else ""
    return f"{about['time']} UTC{code}{', busy machine' if about.get('busy') else ''}"


def _key(row: Mapping[str, Any]) -> str:
    return row.get("group") or f"{row['what']} | {row['peer']}"
