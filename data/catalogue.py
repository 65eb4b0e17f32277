"""What the published datasets are: title, licence, citation. The facts stand in datasets.yaml."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.yaml_files import read_yaml


@cache
def datasets() -> dict[str, dict[str, Any]]:
    """The facts of every published dataset, by the name of its source."""
    return read_yaml(Path(__file__).with_name("datasets.yaml"))


def describe(name: str) -> str:
    """One dataset as text for a person."""
    about = datasets()[name]
    lines = [f"{name}: {about['title']}, {about['objects']:,} objects", f"  {about['homepage']}"]
    lines += [f"  licence: {about['licence']}"]
    return "\n".join(
        [*lines, *textwrap.wrap(f"cite: {about['citation']}", 118, initial_indent="  ", subsequent_indent="  ")]
    )


def credits(objects: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """For each source of prepared objects (their `about`): how many under which licence, and what to cite."""
    counts: dict[str, Counter[str]] = {}
    for about in objects:
        counts.setdefault(about["source"], Counter())[about["licence"] or "not stated"] += 1
    facts = {name: {k: datasets()[name][k] for k in ("title", "homepage", "citation")} for name in datasets()}
    return {
        source: {"objects": licences.total(), "licences": dict(sorted(licences.items())), **facts.get(source, {})}
        for source, licences in sorted(counts.items())
    }
