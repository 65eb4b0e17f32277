"""README.md and plots, from nothing but the results."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.growth import TOLERANCE
from benchmarks.measure import Spread
from benchmarks.page import HEAD, NOTHING, TAIL
from benchmarks.plot import draw
from benchmarks.result import Row, from_json, read_results
from core.files import write_text

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
    """The page: a section for each path, in it the results of each machine (its stem: path: entry)."""
    parts = [HEAD]
    if not any(found.values()):
        parts.append(NOTHING)
    for name in paths:
        entries = {machine: entries[name] for machine, entries in found.items() if name in entries}
        if entries:
            parts.append(f"## {name}\n\n{_summary(name)}\n")
            parts += [_section(machine, name, entry) for machine, entry in entries.items()]
        elif any(found.values()):
            parts.append(f"## {name}\n\nNot measured yet.\n")
    return "\n".join([*parts, TAIL])


def _summary(name: str) -> str:
    summary = importlib.import_module(f"benchmarks.{name}").SUMMARY
    return summary[0].upper() + summary[1:] + "."


def _section(machine: str, name: str, entry: dict[str, Any]) -> str:
    about, outcome = entry["machine"], from_json(entry["outcome"])
    torch = about["packages"].get("torch", "none")
    lines = [
        f"**{about.get('gpu') or about['cpu']}**, {about['cores']} cores, {about['memory_gib']} GiB, "
        f"{about['threads']} thread, device {entry['device']}, scale {entry['scale']}, torch {torch}, Python "
        f"{about['python']}; {about['time']} UTC, load {about['load'][0]} before it; {entry['seconds']:.0f} s in all"
        f"{_code(about)}.",
    ]
    if entry["quick"]:
        lines.append("**Tiny sizes (`--quick`): this shows that it runs, and nothing else.**")
    if about["busy"]:
        lines.append("**The machine was busy with other work: these times are not to be quoted.**")
    lines.append(grid(HEADER, [cells(row) for row in outcome.rows]).rstrip())
    lines += [f"- {note}" for note in outcome.notes]
    lines += [grid(GROWTH, [growth_cells(curve) for curve in outcome.curves]).rstrip()] if outcome.curves else []
    if outcome.curves:
        lines.append(f"![Cost of {name} against size](results/{machine}-{name}.png)")
    return "\n\n".join(lines) + "\n"


def _code(about: dict[str, Any]) -> str:
    """Of which code the numbers are, where the results say so."""
    git = about.get("git") or {}
    if not git.get("commit"):
        return ""
    return f"; code {git['commit'][:7]}{' with changes' if git['dirty'] else ''}, sources {about['sources']}"


GROWTH = ("growth", "of", "against", "from", "to", "slope", "theory", "why", "no steeper")


def growth_cells(curve: Any) -> list[str]:
    """The cells of one curve."""
    value, error = curve.slope
    verdict = "" if curve.theory is None else "no" if curve.too_steep else "yes"
    theory = "" if curve.theory is None else f"{curve.theory:.2f} + {TOLERANCE}"
    ends = (f"{curve.sizes[0]:g}", f"{curve.sizes[-1]:g}")
    return [curve.label, curve.unit, curve.size, *ends, f"{value:.2f} ± {error:.2f}", theory, curve.why, verdict]


def cells(row: Row) -> list[str]:
    """The cells of one row, in the order of HEADER."""
    targets = row.targets
    same = ""
    if row.equality:
        verdict = "yes" if row.equality.holds else "**no**"
        same = f"{verdict}: {row.equality.what} {row.equality.error:.1e}, allowed {row.equality.tolerance:.0e}"
    return [
        row.what,
        cost(row.cost, row.unit),
        row.peer,
        row.peer_status or cost(row.peer_cost, row.unit),
        cost(row.ratio, "x"),
        same,
        row.limit,
        "; ".join(f"{t.name} {t.sense} {t.value:g} {t.unit}".strip() for t in targets),
        "; ".join(f"{_yes(row, t.reached)} ({_digits(t.measured)} {t.unit}".rstrip() + ")" for t in targets),
        "; ".join(f"{t.missed_by:.2f}x" for t in targets if t.reached is False),
        row.tried or ("**nothing yet**" if row.missed else ""),
    ]


def _yes(row: Row, reached: bool | None) -> str:
    if reached and row.equality and not row.equality.holds:
        return "**does not count: the results differ**"
    return {True: "yes", False: "**no**", None: "not measured"}[reached]


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def cost(value: Spread | None, unit: str) -> str:
    """`12.3 [12.1, 12.9] ms, n = 7`: median, quartiles and number; nothing for None."""
    if value is None:
        return ""
    if unit == "s" and value.median < 0.1:
        value, unit = value.times(1e3), "ms"
    if value.n == 1:
        return f"{value.median:.3g} {unit}, n = 1"
    return f"{value.median:.3g} [{value.low:.3g}, {value.high:.3g}] {unit}, n = {value.n}"


def grid(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, ending with a newline."""
    rows = ([" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *rows))
