"""What was left out and why: one small CSV beside each shard, joined into one for the dataset."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import sha256_of, write_json, write_text

COLUMNS = ("object", "source", "path", "reason")


def quarantine_path(shard: Path) -> Path:
    """The list of objects left out of a shard, beside it."""
    return shard.with_suffix(".quarantine.csv")


def as_text(rows: Sequence[Sequence[str]], columns: Sequence[str] = COLUMNS) -> str:
    """A quarantine file: its header always, and a line for each object left out."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    return buffer.getvalue()


def read_quarantine(path: Path) -> list[tuple[str, ...]]:
    """The rows of one quarantine file, without its header."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): prepare its shard again") from error
    if tuple(header) != COLUMNS:
        raise UserError(f"{path} is not a quarantine file: its columns are {', '.join(header)}")
    return [tuple(row) for row in rows]


def collect(prepared: str | Path, out: str | Path, manifest: str | Path) -> dict[str, Any]:
    """Join the quarantine files of a prepared dataset into `out` and describe the dataset in `manifest` (JSON).

    The manifest holds, per split, how many objects were kept and left out, how many shards there are, the parameters
    and `sha256` over the shard files; `credits` (of each source: licences, and what to cite); and `data_hash` over all
    splits. Two prepared datasets of one hash are equal. A split of which nothing is left is a UserError, raised after
    both files are written.
    """
    from data.catalogue import credits
    from data.store import SPLITS, Split

    objects: list[dict[str, str]] = []
    joined: list[tuple[str, ...]] = []
    splits: dict[str, Any] = {}
    empty: list[str] = []
    for name in SPLITS:
        if not any((Path(prepared) / name).glob("*.safetensors")):
            continue
        split = Split(prepared, name)
        objects += split.about
        left_out = [row for path in split.paths for row in read_quarantine(quarantine_path(path))]
        joined += [(name, *row) for row in left_out]
        digest = hashlib.sha256()
        for path in split.paths:
            digest.update(f"{name}/{path.name} {sha256_of(path)}\n".encode())
        splits[name] = {
            "objects": len(split),
            "left_out": len(left_out),
            "shards": len(split.paths),
            "bytes": sum(path.stat().st_size for path in split.paths),
            "sha256": digest.hexdigest(),
            "params": split.params,
        }
        if not len(split):
            first = f"; the first, {left_out[0][0]}: {left_out[0][3]}" if left_out else ""
            empty.append(f"no object of {name} could be prepared{first}")
    if not splits:
        raise UserError(f"no prepared shards in {prepared}: run `python -m data prepare --out {prepared}` first")
    whole = hashlib.sha256("".join(f"{name} {about['sha256']}\n" for name, about in splits.items()).encode())
    summary = {"splits": splits, "credits": credits(objects), "data_hash": whole.hexdigest()}
    write_text(out, as_text(joined, ("split", *COLUMNS)))
    write_json(manifest, summary)
    if empty:
        raise UserError(f"{empty[0]} (all reasons: {out})")
    return summary
