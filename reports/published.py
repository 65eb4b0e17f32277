"""The paper's numbers (`published.yaml`), in the units of a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError, known
from core.yaml_files import read_yaml
from evaluation.protocol import Protocol

FILE = Path(__file__).with_name("published.yaml")
TABLES = ("table1", "table2")


def read(path: Path = FILE) -> dict[str, Any]:
    """The whole file."""
    return read_yaml(path)


def values(
    published: Mapping[str, Any], table: str, row: str | None, protocol: Protocol, dataset: str = "gso"
) -> dict[str, float]:
    """What the paper reports in a row of a table (`table2`, `full`): fscore, cd and nc, in the units of `protocol`.

    Empty without a row, and for a row of another table. A metric that the protocol measures otherwise (another
    threshold, another Chamfer distance) is left out rather than shown beside what it cannot be compared with. Raises
    UserError for an unknown row.
    """
    if row is None:
        return {}
    if row not in published[table] and any(row in published[other] for other in TABLES):
        return {}
    if row not in published[table]:
        raise UserError(f"reports/published.yaml: {known(f'row of {table}', row, published[table])}")
    printed, reading = published[table][row][dataset], published["reading"]
    result = {"nc": printed["nc"]}
    if protocol.report.fscore == reading["fscore"]["threshold"]:
        result["fscore"] = printed["fscore"]
    if protocol.report.cd == reading["cd"]["column"]:
        result["cd"] = printed["cd"] * reading["cd"]["unit"] / protocol.report.cd_unit
    return result
