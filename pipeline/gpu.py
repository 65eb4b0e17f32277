"""Everything that a machine with a GPU is for, by one command, in pieces that resume: `make gpu`.

    card              which card it is, and that torch can use it
    tests             those that want a GPU, and a whole step of every stage at the paper's size
    backends          who finds nearest neighbours here, and whether with the numbers of the CPU path
    step_vae, step_mar_lr, step_mar_hr
                      steps at the paper's size: samples/s, utilisation of the card's measured matrix peak, memory
    data              the prepared shards of the dataset
    train             trainings and generations of what the tables show: the 45 minutes of scale `gpu`
    tables            scores, tables and figures
    sheet             condition images, meshes and true shapes beside each other
    keep              reports/recorded/{scale}-{dataset}: tables, figures, rows, manifest, sheet and what was measured
    results           in an unpacked bundle: the archive to bring home

A piece that is done (of this code, on this card) is not done again; Snakemake knows for itself what is left of its
three. What was measured stands in runs/{dataset}/{scale}/record/measured.json, and what each piece printed beside it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import OUT_OF_MEMORY, UserError, known
from core.files import read_json, sha256_of, write_json
from core.identity import ROOT, params_key, source_hash
from methods import places
from methods.specs import PAPER
from pipeline import cards, lock
from pipeline.artefacts import asked_for
from pipeline.dag import RUNS, Dag

TARGETS = ("reports/table2.csv", "reports/table1.csv", "reports/figure3.pdf")
"""Table 2 and, by Table 1, the DiT cascade; Figure 3 draws what these have made."""
STEPS = ("vae", "mar_lr", "mar_hr")
WANTED = 0.4
"""Utilisation of the measured matrix peak that MAR-LR and MAR-HR should reach at the paper's size."""
BUDGET_MINUTES = 45
"""Within which `train` should end at scale `gpu`, on a card of the class H100."""
LOOK = "import torch; torch.ones(1, device='cuda').sum().item(); print('name', torch.cuda.get_device_name())"
TESTS = ("tests/methods/test_gpu.py", "tests/methods/test_foresee.py::test_inputs_are_made_up_on_the_gpu")
TESTS += ("tests/evaluation/test_backends.py", "tests/methods/test_paper_step.py")
COLUMNS = 8
"""Settings on the sheet, at most: more would be too small to be looked at."""
MEASURED, SHEET = "measured.json", "sheet.png"
IDENTITY, SECONDS, KEEP = "identity", "seconds", "keep"


@dataclass(frozen=True)
class Piece:
    """A part of the work. commands: run one after another, stopping at the first that fails; or what says them when
    their turn comes.

    identity: of what it depends on, asked when its turn comes; None: always run, its commands know what is done.
    makes: must be there as well if it is done. read: what its output says, for `measured.json`. remedy: where it fails.
    """

    name: str
    commands: Sequence[Sequence[str]] | Callable[[], Sequence[Sequence[str]]]
    identity: Callable[[], Any] | None = None
    makes: Path | None = None
    read: Callable[[str], dict[str, Any]] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    remedy: str = ""


def check_card(*, cpu: bool) -> None:
    """Raises UserError, at once, where there is no GPU. cpu: go without one."""
    if cpu or cards.cards():
        return
    seen = os.environ.get(cards.VISIBLE)
    why = "there is no /dev/nvidia0" if seen is None else f"{cards.VISIBLE} is {seen!r}"
    raise UserError(
        f"this machine shows no GPU ({why}): run this where there is one (docs/clusters.md), or try the chain without"
        " by `python -m pipeline gpu --cpu --scale smoke --dataset procedural`"
    )


def pieces(
    dag: Dag, config: Sequence[str], *, cores: str, cpu: bool, out: Path | None, targets: Sequence[str], bundled: bool
) -> list[Piece]:
    """All of them, in order.

    config: options of snakemake that name the run. cpu: without a GPU, steps at the run's own scale. out: folder to
    keep it in. targets: files of tables and figures. bundled: whether this is an unpacked bundle.
    """
    python, folder = sys.executable, folder_of(dag)
    targets = list(dict.fromkeys([TARGETS[0], *targets]))
    artefacts = asked_for(set(targets))
    made = [str(path) for path in generated(dag, targets)]
    shown = [name for a in artefacts for name in dag.config[a.name].get("settings", ())]
    seed = dag.config["seeds"][0]
    shown = [str(_generated(dag, name, seed).parent) for name in dict.fromkeys(shown)][:COLUMNS]
    files = [path for artefact in artefacts for path in artefact.paths]
    kept = out or Path("reports/recorded") / f"{dag.scale}-{dag.dataset}"
    snakemake = [python, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores", cores]
    snakemake += ["--workflow-profile", f"{ROOT}/profiles/default"]
    snakemake += ["--resources", f"gpu={len(cards.cards())}"] if len(cards.cards()) > 1 else []
    snakemake += [*config, "--"]
    step = [python, "-m", "methods", "step", "--method", "mar3d/full", "--scale", dag.scale if cpu else PAPER]
    step += [] if cpu else ["--compile"]  # whether it pays there
    tests = [python, "-m", "pytest", "-q", "-n0", "-rs", "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    tests += [str(ROOT / name) for name in (TESTS[:1] if cpu else TESTS)]
    tables = (
        f"its jobs' logs are below {dag.logs}; rows that failed are rows of the table, `--without tables` keeps them"
    )
    configs = [ROOT.glob(pattern) for pattern in ("config/*.yaml", "methods/*/config.yaml")]
    configs = [path.relative_to(ROOT).as_posix() for found in configs for path in sorted(found)]

    def code(*rooms: str) -> Callable[[], Any]:
        return lambda: source_hash("core", "methods", *rooms, *configs)

    found = [] if cpu else [Piece("card", [[python, "-c", LOOK]], read=_named, remedy="docs/running.md has the driver")]
    found += [
        Piece(
            "tests",
            [tests],
            code("evaluation", "tests"),
            read=_last_line,
            environment={} if cpu else {"GPU": "1", "PAPER_STEPS": "1"},
        ),
        Piece("backends", [[python, "-m", "evaluation", "backends", "--check"]], code("evaluation")),
        *(
            Piece(
                f"step_{stage}",
                [[*step, "--stage", stage, "--json", str(folder / f"step_{stage}.json")]],
                code(),
                makes=folder / f"step_{stage}.json",
                read=partial(_written, folder / f"step_{stage}.json"),
                remedy="a card may be too small",
            )
            for stage in STEPS
        ),
        Piece("data", [[*snakemake, "describe"]], remedy=tables),
        Piece("train", [[*snakemake, *made]], remedy=tables),
        Piece("tables", [[*snakemake, *files]], remedy=tables),
        Piece(
            "sheet",
            [_sheet(dag, shown, folder / SHEET)],
            lambda: [sha256_of(path) for path in _there(shown)],
            makes=folder / SHEET,
        ),
        Piece(KEEP, lambda: _keeping(files, folder, kept)),
    ]
    if bundled:
        archive = [python, "-m", "pipeline", "results", "--configfile", "bundle.yaml", "--out", "results.tar.gz"]
        found.append(Piece("results", [archive, ["tar", "-czf", "record.tar.gz", str(folder), str(kept)]]))
    return found


def _there(folders: Sequence[str]) -> list[Path]:
    return [path for folder in folders if (path := Path(folder) / "generate.jsonl").exists()]


def _sheet(dag: Dag, shown: Sequence[str], out: Path) -> list[str]:
    command = [sys.executable, "-m", "methods", "preview", "--prepared", dag.prepared, "--generated", *shown]
    return [*command, "--out", str(out)]


def _keeping(files: Sequence[str], folder: Path, kept: Path) -> list[list[str]]:
    """Commands that keep what there is of the run's files. Raises UserError without Table 2, which names the run."""
    made = [path for path in files if Path(path).exists()]
    if TARGETS[0] not in made:
        raise UserError(f"there is no {TARGETS[0]} to keep: run `tables` as well")
    return [["cp", "--", *made, str(folder)], _index(made, folder), _record(folder, kept)]


def _index(files: Sequence[str], folder: Path) -> list[str]:
    copies = [str(folder / Path(path).name) for path in files]
    return [sys.executable, "-m", "reports", "all", "--files", *copies, "--out", str(folder / "all")]


def _record(folder: Path, out: Path) -> list[str]:
    also = [str(folder / name) for name in (SHEET, MEASURED) if (folder / name).exists()]
    return [sys.executable, "-m", "reports", "record", "--reports", str(folder), "--out", str(out), "--also", *also]


def folder_of(dag: Dag) -> Path:
    """Where the record of a run lies."""
    return Path(dag.root) / "record"


def generated(dag: Dag, targets: Sequence[str]) -> list[Path]:
    """The generations whose rows the targets show, each once; those of other runs' rows are not made here."""
    rows = dict.fromkeys(path for artefact in asked_for(set(targets)) for path in dag.rows(artefact.name))
    parts = [Path(path).parts for path in rows if path.startswith(f"{dag.root}/")]
    found = [_generated(dag, f"{p[-3]}/{p[-2]}", int(p[-1].removeprefix("seed").split(".")[0])) for p in parts]
    return list(dict.fromkeys(found))


def _generated(dag: Dag, setting: str, seed: int) -> Path:
    method, variant = setting.split("/")
    return places.generated_folder(Path(RUNS), dag.dataset, dag.scale, method, variant, seed) / "generate.jsonl"


def run(todo: Sequence[Piece], folder: Path, *, without: Sequence[str] = (), dry: bool = False) -> None:
    """Run the pieces that are not done, in order; what they say and took goes to `measured.json` in `folder`.

    without: names to leave out. dry: only say what would be run. Raises UserError, which says how to go on, for one
    that fails.
    """
    for name in without:
        if name not in {piece.name for piece in todo}:
            raise known("piece", name, [piece.name for piece in todo])
    if not dry:
        folder.mkdir(parents=True, exist_ok=True)
    for piece in todo:
        record = read_json(folder / MEASURED) if (folder / MEASURED).exists() else {}
        if piece.name in without:
            print(f"{piece.name}: left out", flush=True)
        elif dry:
            state = "done" if is_done(piece, record) else "to do" if piece.identity else "asks what is left to do"
            print(f"{piece.name}: {state}", flush=True)
        elif is_done(piece, record):
            print(f"{piece.name}: done before", flush=True)
        else:
            _run_piece(piece, folder, record)


def alone(folder: Path) -> None:
    """Raises UserError if another such run works in a folder; holds it until this process ends."""
    if not lock.take(folder / "lock", wait=False):
        raise UserError(f"another `python -m pipeline gpu` works in {folder}: wait for it to end, or stop it")


def is_done(piece: Piece, record: Mapping[str, Any]) -> bool:
    """Whether `measured.json` has it, of what there is now."""
    if piece.identity is None or piece.name not in record or not (piece.makes is None or piece.makes.exists()):
        return False
    return record[piece.name].get(IDENTITY) == _identity(piece, record)


def _identity(piece: Piece, record: Mapping[str, Any]) -> str:
    commands = [list(command) for command in _commands(piece)]
    return params_key(
        [piece.identity(), commands, record.get("card", {}).get("name"), importlib.metadata.version("torch")]
    )


def _commands(piece: Piece) -> Sequence[Sequence[str]]:
    return piece.commands() if callable(piece.commands) else piece.commands


def _run_piece(piece: Piece, folder: Path, record: dict[str, Any]) -> None:
    print(f"{piece.name}: begins", flush=True)
    log, text, start = folder / f"{piece.name}.log", "", time.monotonic()
    before = record.get(piece.name, {}).get(SECONDS, []) if piece.identity is None else []
    log.unlink(missing_ok=True)
    for command in _commands(piece):
        status, printed = _tee(command, log, piece.environment)
        text += printed
        if status:
            if (
                piece.identity is None and piece.name != KEEP
            ):  # it goes on from there, so these seconds are part of what it takes
                spent = {SECONDS: [*before, round(time.monotonic() - start, 1)]}
                write_json(folder / MEASURED, record | {piece.name: spent})
            why = "out of memory" if status in (OUT_OF_MEMORY, -9) else f"exit status {status}"
            remedy = f"; {piece.remedy}" if piece.remedy else ""
            raise UserError(
                f"{piece.name} failed ({why}; {log} has what it printed){remedy}: the same command goes on from there,"
                f" and with `--without {piece.name}` goes on without"
            )
    if piece.name == KEEP:  # it has copied the record, which would then be another one
        return
    seconds = before if "Nothing to be done" in text else [*before, round(time.monotonic() - start, 1)]
    about = {SECONDS: seconds, **(piece.read(text) if piece.read else {})}
    if piece.identity is not None:
        about[IDENTITY] = _identity(piece, record)
    write_json(folder / MEASURED, record | {piece.name: about})


def _tee(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command, its output on the screen and at the end of a file; returns its exit status and the output."""
    own = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    text = []
    with (
        log.open("ab") as file,
        subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while chunk := process.stdout.read1():
                for place in (file, sys.stdout.buffer):
                    place.write(chunk)
                    place.flush()
                text.append(chunk)
        except BaseException:
            process.terminate()
            raise
    return process.returncode, b"".join(text).decode(errors="replace")


def _named(text: str) -> dict[str, Any]:
    return {"name": re.findall(r"^name (.+)$", text, re.MULTILINE)[-1]}


def _written(path: Path, _: str) -> dict[str, Any]:
    return read_json(path)


def _last_line(text: str) -> dict[str, Any]:
    return {"said": text.strip().splitlines()[-1].strip("= ")}


def summary(folder: Path) -> str:
    """What `measured.json` in a folder says, for people."""
    record = read_json(folder / MEASURED) if (folder / MEASURED).exists() else {}
    lines = [f"card: {record['card']['name']}"] if "card" in record else []
    for name, about in record.items():
        if name.startswith("step_"):
            asked = f" (asked: {WANTED:.0%})" if name != "step_vae" else ""
            lines.append(
                f"{name}: {about['samples_per_second']:.3g} samples/s at batch {about['batch']},"
                f" {about['utilisation']:.1%} of the measured {about['matrix_tflops']:.4g} TFLOP/s{asked},"
                f" {about['peak_memory_gb']:.3g} GB"
            )
    if "train" in record:
        minutes, starts = sum(record["train"][SECONDS]) / 60, len(record["train"][SECONDS])
        lines.append(f"train: {minutes:.1f} min in {starts} starts (of {BUDGET_MINUTES} at scale gpu)")
    return "\n".join(lines)
