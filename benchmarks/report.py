"""README.md and plots, from nothing but the results."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.growth import TOLERANCE
from benchmarks.measure import Spread
from benchmarks.page import HEAD, NOTHING, READING, TAIL
from benchmarks.plot import draw
from benchmarks.result import Row, Target, from_json, read_results
from core.files import write_text

UNTRIED = "**nothing yet**"
LONG = ("extraction_real",)
"""Paths that are measured only where a finished run is named, and then take an hour or two."""
HEADER = ("what", "ours", "beside", "its cost", "ratio", "same?", "limit", "target", "reached", "missed by", "tried")


def write(out: Path, paths: Sequence[str]) -> None:
    """`out`/README.md and `out`/results/<machine>-<path>.png from `out`/results/*.json."""
    found = {path.stem: read_results(path)["paths"] for path in sorted((out / "results").glob("*.json"))}
    for machine, entries in found.items():
        for name, entry in entries.items():
            outcome = from_json(entry["outcome"])
            if outcome.curves:
                draw(outcome.curves, out / "results" / f"{machine}-{name}.png")
    write_text(out / "README.md", page(found, paths))


def page(found: dict[str, dict[str, Any]], paths: Sequence[str]) -> str:
    """The page: each machine's targets, and a section for each path with each machine's results.

    found: of each machine, by the stem of its file, the entry of each path.
    """
    parts = [HEAD]
    parts += [_total(entries) + "\n" + overview(entries, paths) for entries in found.values() if entries] or [NOTHING]
    parts.append(READING)
    for name in paths:
        entries = {machine: entries[name] for machine, entries in found.items() if name in entries}
        if entries:
            parts.append(f"## {name}\n\n{_summary(name)}\n")
            parts += [_section(machine, name, entry) for machine, entry in entries.items()]
        elif any(found.values()):
            parts.append(f"## {name}\n\nNot measured yet.\n")
    return "\n".join([*parts, TAIL])


def _total(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """How long the paths took that every run measures; what else there is is told and not added."""
    counted = [entry for name, entry in entries.items() if name not in LONG]
    minutes = sum(entry["seconds"] for entry in counted) / 60
    runs = len({entry.get("run", "") for entry in counted})
    over = f", added up over {runs} runs" if runs > 1 else ""
    inputs = {_given(entry) for entry in counted}
    given = inputs.pop().replace(";", ",") if len(inputs) == 1 else ""
    long = [name for name in LONG if "finished" in (entries.get(name, {}).get("given") or {})]
    left = [f"`{name}` took {entries[name]['seconds'] / 60:.0f} minutes more" for name in long]
    rows = sum(bool(row.get("older")) for entry in entries.values() for row in entry["outcome"]["rows"])
    left += [f"{_count(rows, 'row')} of earlier runs not counted"] if rows else []
    about = next(iter(entries.values()))["machine"]
    who, what = f"**{about.get('gpu') or about['cpu']}**", _count(len(counted), "path")
    return "; ".join([f"{who}: {what} in {minutes:.1f} minutes{over}{given}", *left]) + ".\n"


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


COUNTS = ("queries", "jobs")
"""Units of what other work on the machine does not change."""
OVERVIEW = ("path", "what", "beside", "target", "measured", "reached", "missed by")


def overview(entries: Mapping[str, Mapping[str, Any]], paths: Sequence[str]) -> str:
    """A line for each target of one machine, also of those that were not measured here."""
    lines = []
    for name in (name for name in paths if name in entries):
        entry = entries[name]
        for row in from_json(entry["outcome"]).rows:
            busy = entry["machine"]["busy"] and not row.older and row.unit not in COUNTS
            marks = [", busy machine"] * busy + [", tiny sizes"] * entry["quick"]
            for t in row.targets:
                known = t.reached is not None
                measured = f"{digits(t.measured)} {t.unit}" if known else ""
                reached = verdict(row, t) + "".join(marks if known else [])
                lines.append([f"[{name}](#{name})", _what(row), row.peer, _wanted(t), measured, reached, _missed_by(t)])
    return grid(OVERVIEW, lines)


def _summary(name: str) -> str:
    summary = importlib.import_module(f"benchmarks.{name}").SUMMARY
    return summary[0].upper() + summary[1:] + "."


def _section(machine: str, name: str, entry: dict[str, Any]) -> str:
    about, outcome = entry["machine"], from_json(entry["outcome"])
    torch = about["packages"].get("torch", "none")
    lines = [
        f"**{about.get('gpu') or about['cpu']}**, {about['cores']} cores, {about['memory_gib']} GiB, "
        f"{about['threads']} thread, device {entry['device']}, scale {entry['scale']}, torch {torch}, Python "
        f"{about['python']}; {about['time']} UTC, load {about['load'][0]} before it{_pace(about)};"
        f" {entry['seconds']:.0f} s in all{_code(about)}{_given(entry)}.",
    ]
    if entry["quick"]:
        lines.append("**Tiny sizes (`--quick`): this shows that it runs, and nothing else.**")
    if about["busy"]:
        lines.append("**The machine was busy with other work: these times are not to be quoted.**")
    lines.append(grid(HEADER, _without_repeats([cells(row) for row in outcome.rows])).rstrip())
    lines += [f"- {note}" for note in outcome.notes]
    lines += [grid(GROWTH, [growth_cells(curve) for curve in outcome.curves]).rstrip()] if outcome.curves else []
    if outcome.curves:
        lines.append(f"![Cost of {name} against size](results/{machine}-{name}.png)")
    return "\n\n".join(lines) + "\n"


def _pace(about: dict[str, Any]) -> str:
    """How fast a core was, where the results say so."""
    return f", pace {about['pace_ms']:.0f} ms" if "pace_ms" in about else ""


def _code(about: dict[str, Any]) -> str:
    """Of which code the numbers are, where the results say so."""
    git = about.get("git") or {}
    if not git.get("commit"):
        return ""
    return f"; code {git['commit'][:7]}{' with changes' if git['dirty'] else ''}, sources {about['sources']}"


def _given(entry: dict[str, Any]) -> str:
    """The inputs that the run was given, where the results say so."""
    given = entry.get("given") or {}
    return f"; given {', '.join(f'--{name} {value}' for name, value in given.items())}" if given else ""


def _without_repeats(lines: list[list[str]]) -> list[list[str]]:
    """What was tried in words once, where several rows share it."""
    told: set[str] = set()
    for line in lines:
        if line[-1] in told and line[-1] != UNTRIED:
            line[-1] = "as above"
        elif line[-1]:
            told.add(line[-1])
    return lines


GROWTH = ("growth", "of", "against", "from", "to", "slope", "last interval", "theory", "why", "no steeper")


def growth_cells(curve: Any) -> list[str]:
    """The cells of one curve."""
    value, error = curve.slope
    no_steeper = "" if curve.allowed is None else "yes"
    if curve.too_steep:
        no_steeper = f"**no**: {curve.tried or UNTRIED}"
    theory = ""
    if curve.allowed is not None:
        whole, last = curve.allowed
        theory = f"{whole:.2f}, at last {last:.2f}; + {TOLERANCE}" if last != whole else f"{whole:.2f} + {TOLERANCE}"
    ends = (f"{min(curve.sizes):g}", f"{max(curve.sizes):g}")
    slopes = (f"{value:.2f} ± {error:.2f}", f"{curve.last:.2f}")
    return [curve.label, curve.unit, curve.size, *ends, *slopes, theory, curve.why, no_steeper]


def cells(row: Row) -> list[str]:
    """The cells of one row, in the order of HEADER."""
    targets = row.targets
    return [
        _what(row),
        cost(row.cost, row.unit, row.over),
        row.peer,
        row.peer_status or cost(row.peer_cost, row.unit, row.over),
        cost(row.ratio, "x", row.over),
        _same(row),
        row.limit,
        "; ".join(_wanted(t) for t in targets),
        "; ".join(_reached(row, t) for t in targets),
        "; ".join(_missed_by(t) for t in targets if t.reached is False),
        (row.tried or UNTRIED) if row.missed else "",
    ]


def _what(row: Row) -> str:
    """What a row is about, and when it was measured if that was in an earlier run."""
    return row.what + (f" (of {row.older})" if row.older else "")


def _wanted(target: Target) -> str:
    """A target, to be read aloud."""
    return f"{target.name}: {target.sense} {target.value:g} {target.unit}".strip()


def _missed_by(target: Target) -> str:
    """The factor that is wanting; of a target of 0 there is none."""
    if target.reached is not False:
        return ""
    return f"{target.missed_by:.2f}x" if math.isfinite(target.missed_by) else "no factor"


def _same(row: Row) -> str:
    """Whether the results agree; a row with a ratio and no comparison says so."""
    if row.equality:
        holds = "yes" if row.equality.holds else "**no**"
        return f"{holds}: {row.equality.what}: {row.equality.error:.1e}, at most {row.equality.tolerance:.0e}"
    if row.ratio is None:
        return ""
    return "not compared" + (f": {row.not_compared}" if row.not_compared else "")


def verdict(row: Row, target: Target) -> str:
    """Whether a target is reached, and whether that counts."""
    if target.reached is None:
        return "not measured"
    if not target.reached:
        return "**no**"
    if row.equality and not row.equality.holds:
        return "**does not count: the results differ**"
    return "yes, results not compared" if row.ratio and not row.equality else "yes"


def _reached(row: Row, target: Target) -> str:
    """The verdict with what was measured."""
    measured = "" if target.reached is None else f" ({digits(target.measured)} {target.unit}".rstrip() + ")"
    return verdict(row, target) + measured


def digits(value: float) -> str:
    """Three significant digits; thousands with commas, not with an exponent."""
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cost(value: Spread | None, unit: str, over: str = "") -> str:
    """`12.3 [12.1, 12.9] ms, n = 7`: median, spread and number, of what where it is not rounds; nothing for None."""
    if value is None:
        return ""
    if unit == "s" and value.median < 0.1:
        value, unit = value.times(1e3), "ms"
    if value.n == 1:
        return f"{digits(value.median)} {unit}, n = 1"
    return f"{digits(value.median)} [{digits(value.low)}, {digits(value.high)}] {unit}, n = {value.n} {over}".rstrip()


def grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, ending with a newline."""
    rows = ([" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *rows))
