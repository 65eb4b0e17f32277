"""What was acquired: one line an object in `{root}/acquired.csv`, the last one holds.

It is also the lock of the downloads: the SHA-256 of what was downloaded first is what every later download of that
object must have. Several processes may write it at once.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from core.errors import UserError

NAME = "acquired.csv"
OK, LEFT_OUT = "ok", "left_out"


@dataclass(frozen=True)
class Entry:
    """One object: where its mesh is (relative to the root), or why there is none.

    `sha256` is of what was downloaded for it (the archive, where there is one), empty for what was found on disk.
    """

    object: str
    status: str
    path: str = ""
    bytes: int = 0
    sha256: str = ""
    category: str = ""
    licence: str = ""
    attribution: str = ""
    reason: str = ""


COLUMNS = tuple(field.name for field in fields(Entry))


def as_csv(entries: list[Entry], *, header: bool = True) -> str:
    """Lines of a ledger."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerows([COLUMNS] if header else [])
    table.writerows([str(value).replace("\n", " ") for value in astuple(entry)] for entry in entries)
    return buffer.getvalue()


def read_ledger(root: Path) -> dict[str, Entry]:
    """The last entry of every object; empty where nothing was acquired. Raises UserError for a file that is not one."""
    try:
        text = (root / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    header, *rows = csv.reader(io.StringIO(text[: text.rfind("\n") + 1])) if text else [COLUMNS]
    if tuple(header) != COLUMNS:
        raise UserError(f"{root / NAME} is not a ledger of acquired objects: move it away")
    # A line that a killed process left unfinished has too few columns.
    entries = (Entry(*row[:3], int(row[3]), *row[4:]) for row in rows if len(row) == len(COLUMNS) and row[3].isdigit())
    return {entry.object: entry for entry in entries}


def write_entry(root: Path, entry: Entry) -> None:
    """Append one entry, whole, whoever else is writing."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / NAME).open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        text = as_csv([entry], header=size == 0)
        if size:
            file.seek(size - 1)
            text = text if file.read(1) == b"\n" else f"\n{text}"  # after a line that was not finished
        file.write(text.encode())
