"""The paper's numbers (`published.yaml`), in the units of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError
from evaluation.protocol import Protocol
from methods.settings import read_yaml

FILE = Path(__file__).with_name("published.yaml")


def read(path: Path = FILE) -> dict[str, Any]:
    """The whole file."""
    return read_yaml(path)


def values(published: Mapping[str, Any], key: str | None, protocol: Protocol, dataset: str = "gso") -> dict[str, float]:
    """What the paper reports under `key` (`table2.full`): fscore, cd and nc, in the units of `protocol`.

    Empty without a key. A metric that the protocol measures otherwise (another threshold, another Chamfer
    distance) is left out rather than shown beside what it cannot be compared with. Raises UserError for an
    unknown key.
    """
    if key is None:
        return {}
    table, _, row = key.partition(".")
    if row not in published.get(table, {}) or table in ("source", "reading"):
        raise UserError(f"reports/published.yaml has no {key!r}; a key is table.row, for example table2.full")
    printed, reading = published[table][row][dataset], published["reading"]
    result = {"nc": printed["nc"]}
    if protocol.report.fscore == reading["fscore"]["threshold"]:
        result["fscore"] = printed["fscore"]
    if protocol.report.cd == reading["cd"]["column"]:
        result["cd"] = printed["cd"] * reading["cd"]["unit"] / protocol.report.cd_unit
    return result
