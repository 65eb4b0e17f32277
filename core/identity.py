"""What a result was made from: hashes of parameters and of source code.

Snakemake sees the text of a rule but not the modules behind `python -m …`; rules therefore carry
`source_hash` of what they run as a parameter. The hash is of the syntax tree without strings that stand alone, so
comments, docstrings and formatting do not re-run a training.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def params_key(params: Any, length: int = 10) -> str:
    """A short hash of JSON-like parameters; the order of mapping keys does not matter."""
    text = json.dumps(params, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return tree


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a string alone: a docstring, of a module, class or function or below an attribute."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@functools.cache
def _file_digest(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = ast.dump(_without_docstrings(ast.parse(text)))
    return hashlib.sha256(text.encode()).hexdigest()


def source_hash(*paths: str, length: int = 10) -> str:
    """Hash of Python files, or of every Python file under folders, named relative to the repository."""
    files: set[Path] = set()
    for name in paths:
        path = ROOT / name
        files.update(path.rglob("*.py") if path.is_dir() else [path])
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(ROOT)} {_file_digest(path)}\n".encode())
    return digest.hexdigest()[:length]
