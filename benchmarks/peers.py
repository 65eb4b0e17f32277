"""Other projects' code, where the person who runs this has it: installed, or cloned into the folder of `--peers`.

Nothing of theirs is in this repository. A peer that is not there gives a row that says so.

    DIR/mar    a clone of github.com/LTH14/mar (needs timm): benchmarks/lth14_mar.py
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

NOT_INSTALLED = "not installed"
NO_GPU = "no GPU here: --device cuda on a machine with one"


def installed(name: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


@contextmanager
def cloned(folder: Path | None, name: str, module: str) -> Iterator[ModuleType | str]:
    """A module of the clone `folder/name`, or why there is none, in words."""
    root = folder / name if folder else None
    if root is None or not (root / (module.replace(".", "/") + ".py")).is_file():
        yield NOT_INSTALLED
        return
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        yield importlib.import_module(module)
    except ImportError as error:
        yield f"cannot be imported: {error}"
    finally:
        sys.path.remove(str(root))
        for loaded in set(sys.modules) - before:  # its `models` or `util` must not shadow another peer's
            if str(root) in str(getattr(sys.modules[loaded], "__file__", "")):
                del sys.modules[loaded]
