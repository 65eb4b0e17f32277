"""Which code decides a method's results, as its code hash counts it."""

from __future__ import annotations

from pathlib import Path

from core.identity import ROOT
from methods.registry import EXTERNAL, get_method

FORESEES = ("foresee.py", "matching.py")
"""Files of a method that only foresee what it will take; nothing that they say decides a result."""


def method_sources(method: str, folder: Path = ROOT / "methods") -> tuple[str, ...]:
    """The code that decides a method's results, relative to the repository, for `core.identity.source_hash`.

    The harness (registry, run, manifest) is not part of it: it decides where results lie, not what they are. Neither
    are the files `FORESEES`.
    """
    spec = get_method(method, folder)
    owners = {stage.borrowed_from for stage in spec.stages.values() if stage.borrowed_from} | {*spec.params_from}
    reader = ("core/randomness.py", "data/store.py", "data/views.py", "data/quantise.py")
    if spec.kind == EXTERNAL:
        reader = (*reader, "data/load.py", "data/names.py")
    shared = (f"methods/{name}" for name in ("layers", "training") if (folder / name).is_dir())
    files = (path for name in sorted({spec.code, *owners}) for path in sorted((folder / name).rglob("*.py")))
    own = (f"methods/{path.relative_to(folder).as_posix()}" for path in files if path.name not in FORESEES)
    return (*reader, *shared, *own)
