"""Which code decides a method's results, as its code hash counts it."""

from __future__ import annotations

from pathlib import Path

from core.identity import ROOT
from methods.registry import get_method
from methods.specs import EXTERNAL

FORESEES = "foresee"
"""How the names of those files of a method begin that only foresee what it will take: no result depends on them."""


def method_sources(method: str, folder: Path = ROOT / "methods") -> tuple[str, ...]:
    """The code that decides a method's results, relative to the repository, for `core.identity.source_hash`.

    The harness (registry, run, manifest) is not part of it: it decides where results lie, not what they are. Neither
    are a method's files `foresee*.py`.
    """
    spec = get_method(method, folder)
    owners = {stage.borrowed_from for stage in spec.stages.values() if stage.borrowed_from} | {*spec.params_from}
    reader = ("core/randomness.py", "data/store.py", "data/views.py", "data/quantise.py")
    if spec.kind == EXTERNAL:
        reader = (*reader, "data/load.py", "data/names.py")
    shared = (f"methods/{name}" for name in ("layers", "training") if (folder / name).is_dir())
    files = (path for name in sorted({spec.code, *owners}) for path in sorted((folder / name).rglob("*.py")))
    own = (f"methods/{path.relative_to(folder).as_posix()}" for path in files if not path.name.startswith(FORESEES))
    return (*reader, *shared, *own)
