"""What a benchmark returns, and the JSON in which it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.growth import Curve
from benchmarks.measure import Spread
from benchmarks.older import with_older_rows
from core.errors import UserError
from core.files import read_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class Target:
    """A value to reach, of the quantity `name`, such that "name: at least value unit" can be read aloud."""

    name: str
    value: float
    measured: float | None
    sense: Literal["at least", "at most"] = "at least"
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        """None where nothing was measured, or what was measured is not a number."""
        if self.measured is None or self.measured != self.measured:
            return None
        return self.measured >= self.value if self.sense == "at least" else self.measured <= self.value

    @property
    def missed_by(self) -> float:
        """The factor that is still wanting, above 1 where the target is missed, else 1 (`inf` at a measured 0)."""
        if self.reached is not False:
            return 1.0
        high, low = (self.value, self.measured) if self.sense == "at least" else (self.measured, self.value)
        return high / low if low else float("inf")


@dataclass(frozen=True)
class Equality:
    """How far two results are apart, and how far they may be: speed counts only where it `holds`."""

    what: str
    error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Row:
    """One comparison. cost, peer_cost: in `unit`. ratio: peer over ours, of interleaved rounds.

    peer_status: why there is no peer cost, such as "not installed". not_compared: why a ratio stands without an
    equality. limit: in words with its number. tried: shown where a target is missed. group: of rows that one input
    gives, such as `--finished`; without it one row stands for all of them. older: when a row was measured that an
    earlier run left (benchmarks/older.py). over: what the quartiles are taken over, such as "shapes", where it is not
    rounds.
    """

    what: str
    unit: str
    cost: Spread | None
    peer: str = ""
    peer_cost: Spread | None = None
    peer_status: str = ""
    ratio: Spread | None = None
    equality: Equality | None = None
    limit: str = ""
    targets: tuple[Target, ...] = ()
    tried: str = ""
    not_compared: str = ""
    group: str = ""
    older: str = ""
    over: str = ""

    @property
    def missed(self) -> bool:
        """Whether a target was measured and not reached."""
        return any(target.reached is False for target in self.targets)


@dataclass(frozen=True)
class Outcome:
    """All of one path: rows, curves and notes."""

    path: str
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Plain data for `write_json`."""
    return asdict(outcome)


def from_json(data: Mapping[str, Any]) -> Outcome:
    """The inverse of `as_json`."""
    return Outcome(
        data["path"],
        tuple(_row(row) for row in data["rows"]),
        tuple(_curve(curve) for curve in data["curves"]),
        tuple(data["notes"]),
    )


def _spread(data: Mapping[str, Any] | None) -> Spread | None:
    return None if data is None else Spread(**data)


def _row(data: Mapping[str, Any]) -> Row:
    spreads = {name: _spread(data[name]) for name in ("cost", "peer_cost", "ratio")}
    equality = None if data["equality"] is None else Equality(**data["equality"])
    return Row(**{**data, **spreads, "equality": equality, "targets": tuple(Target(**t) for t in data["targets"])})


def _curve(data: Mapping[str, Any]) -> Curve:
    lists = {name: tuple(data.get(name, ())) for name in ("sizes", "families", "expected")}
    return Curve(**{**data, **lists, "costs": tuple(Spread(**c) for c in data["costs"])})


def read_results(path: Path) -> dict[str, Any]:
    """A results file (`format`, `paths`), or an empty one where there is none; UserError for one of another format."""
    if not path.exists():
        return {"format": FORMAT, "paths": {}}
    data = read_json(path)
    if data.get("format") != FORMAT:
        raise UserError(f"{path} has format {data.get('format')}, this code writes {FORMAT}: move the file away")
    return data


def add_result(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Put one path's entry into a results file; others stay, and so do rows whose input this run was not given."""
    data = read_results(path)
    before = data["paths"].get(name)
    data["paths"][name] = with_older_rows(entry, before) if before else entry
    write_json(path, data)
