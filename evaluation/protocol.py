"""Protocols: the versioned recipe of an evaluation, one YAML file each in `evaluation/protocols/`.

A protocol is data: every switch of the code stands in its file, none has a hidden default, and an unknown
or missing key is an error that names it. A file that would change published numbers gets a new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError, known
from core.yaml_files import read_yaml

FOLDER = Path(__file__).resolve().parent / "protocols"

NORMALISE = ("longest_side", "truth", "none")
STARTS = ("none", "identity", "yaw")
ICP = ("none", "rigid", "similarity")
CD = ("cd_avg", "cd_sum", "cd_sq")


@dataclass(frozen=True)
class Align:
    """How a prediction is turned onto the ground truth (`evaluation/align.py`); lengths in normalised units."""

    starts: str  # none: no alignment at all; identity: one start; yaw: `yaw_steps` turns about +Y
    yaw_steps: int
    free_pose: bool  # also the 24 rotations of the octahedral group
    subset: int  # points on which the starts are compared
    keep: int  # starts that are refined by ICP
    icp: str  # none | rigid (rotation, translation) | similarity (and scale)
    icp_points: int
    correspondence: tuple[float, ...]  # largest distance of a matched pair, one ICP run each
    iterations: int  # of each run
    tolerance: float  # stop when fitness and residual change by less


@dataclass(frozen=True)
class Failed:
    """The numbers of a failed object: the worst a metric can say."""

    cd_avg: float
    fscore: float
    nc: float
    viou: float


@dataclass(frozen=True)
class Report:
    """What a table shows: which Chamfer column, divided by `cd_unit`, and the F-score at which threshold."""

    cd: str
    cd_unit: float
    fscore: float


@dataclass(frozen=True)
class Protocol:
    """One evaluation recipe. Lengths are in units of the normalised box [-1, 1]^3."""

    name: str
    summary: str
    source: str
    normalise: str
    points: int  # samples per surface
    align: Align
    fscore: tuple[float, ...]  # thresholds
    viou: tuple[int, ...]  # grid resolutions; empty: no volume IoU
    failure: Failed
    report: Report

    @property
    def metrics(self) -> list[str]:
        """Names of the metric columns, in the order of a row (each also with the suffix `_before`)."""
        fscores = [f"fscore_{threshold:g}" for threshold in self.fscore]
        grids = [f"viou_{resolution}" for resolution in self.viou]
        return ["cd_avg", "cd_sum", "cd_sq", *fscores, "nc", "nc_signed", *grids]


def names() -> list[str]:
    """Names of all protocols, sorted, v1 first."""
    return sorted((path.stem for path in FOLDER.glob("*.yaml")), key=lambda name: (name != "v1", name))


def load(name: str) -> Protocol:
    """The protocol of this name. Raises `UserError` for an unknown name or a faulty file."""
    if name not in names():
        raise known("protocol", name, names())
    return parse(read_yaml(FOLDER / f"{name}.yaml"), where=f"protocols/{name}.yaml", name=name)


def parse(raw: Any, *, where: str, name: str) -> Protocol:
    """Check a mapping read from YAML and turn it into a `Protocol`; `UserError` names the faulty key."""
    top = {
        "name": str, "summary": str, "source": str, "normalise": NORMALISE, "points": int, "align": dict,
        "fscore": [float], "viou": [int], "failure": dict, "report": dict,
    }  # fmt: skip
    align = {
        "starts": STARTS, "yaw_steps": int, "free_pose": bool, "subset": int, "keep": int, "icp": ICP,
        "icp_points": int, "correspondence": [float], "iterations": int, "tolerance": float,
    }  # fmt: skip
    fields = _checked(raw, top, where)
    if fields["name"] != name:
        raise UserError(f"{where}: name is {fields['name']!r}, but the file is called {name}.yaml: make them agree")
    fields["align"] = Align(**_checked(fields["align"], align, f"{where}: align"))
    failure = {"cd_avg": float, "fscore": float, "nc": float, "viou": float}
    fields["failure"] = Failed(**_checked(fields["failure"], failure, f"{where}: failure"))
    report = {"cd": CD, "cd_unit": float, "fscore": float}
    fields["report"] = Report(**_checked(fields["report"], report, f"{where}: report"))
    protocol = Protocol(**fields)
    _check_values(protocol, where)
    return protocol


def _checked(raw: Any, schema: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The mapping with its values checked; schema values: a type, [type] for a list, a tuple of allowed words."""
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected keys {', '.join(schema)}, found {raw!r}")
    for key in raw:
        if key not in schema:
            raise UserError(f"{where}: {known('key', key, schema)}")
    for key in schema:
        if key not in raw:
            raise UserError(f"{where}: key {key!r} is missing")
    return {key: _value(raw[key], kind, f"{where}: {key}") for key, kind in schema.items()}


def _value(value: Any, kind: Any, where: str) -> Any:
    if isinstance(kind, tuple):
        if value not in kind:
            raise UserError(f"{where} is {value!r}: choose one of {', '.join(kind)}")
        return value
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise UserError(f"{where} is {value!r}: write a list such as [1, 2]")
        return tuple(_value(item, kind[0], where) for item in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number:
        return float(value)
    if kind is int and number and isinstance(value, int):
        return value
    if kind in (str, bool, dict) and isinstance(value, kind):
        return value
    raise UserError(f"{where} is {value!r}: expected {kind.__name__}")


def _check_values(protocol: Protocol, where: str) -> None:
    align = protocol.align
    positive = {
        "points": protocol.points, "yaw_steps": align.yaw_steps, "subset": align.subset, "keep": align.keep,
        "icp_points": align.icp_points, "iterations": align.iterations, "cd_unit": protocol.report.cd_unit,
    }  # fmt: skip
    positive |= {"fscore": min(protocol.fscore, default=0), "correspondence": min(align.correspondence, default=0)}
    positive |= {"viou": min(protocol.viou, default=1)}
    for key, value in positive.items():
        if value <= 0:
            raise UserError(f"{where}: {key} must be above zero and not empty")
    if protocol.report.fscore not in protocol.fscore:
        raise UserError(f"{where}: report.fscore {protocol.report.fscore:g} is not among the fscore thresholds")
    if align.starts == "none" and align.icp != "none":
        raise UserError(f"{where}: align.icp is {align.icp!r} but align.starts is 'none': use starts: identity")
