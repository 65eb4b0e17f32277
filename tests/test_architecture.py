"""The rooms import what the table of docs/architecture.md says that they may, and nothing else."""

import ast
import re
import sys
import tomllib

import pytest

from core.identity import ROOT

ROOMS = ("data", "methods", "evaluation", "reports")
PROJECT = {*ROOMS, "benchmarks", "core", "pipeline", "tests"}
OPTIONAL = {"pytorch3d", "kaolin", "point-cloud-utils"}  # used where they are installed, needed nowhere
# Where a package is imported by another name.
PACKAGES = {"PIL": "pillow", "pynvml": "nvidia-ml-py", "skimage": "scikit-image", "yaml": "pyyaml"}


def allowed(page):
    """What each room may import by the table of the page: packages, and modules of other rooms as `room.module`."""
    found = {}
    for line in page.splitlines():
        if row := re.match(r"\| `(\w+)/` \|.*\| (.+) \|$", line):
            names = set()
            for part in re.sub(r" \([^)]*\)", "", row[2]).split("; "):
                if of := re.match(r"of `(\w+)/`: ", part):
                    listed = re.split(r", | and, for pictures, ", part[of.end() :])
                    names |= {f"{of[1]}.{module}" for module in listed}
                elif not part.startswith("never "):
                    names |= {package.lower() for package in part.split(", ")}
            found[row[1]] = names
    return found


def imports(source):
    """What a module imports, wherever in it: distributions by name, modules of the project by path with dots."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {_module(f"{node.module}.{alias.name}") for alias in node.names}
    return {_name(module) for module in found if module.split(".")[0] not in sys.stdlib_module_names}


def _module(path):
    """The path itself if it is a module of the project, else without its last name, which is then a name inside it."""
    file = ROOT / path.replace(".", "/")
    return path if file.is_dir() or file.with_suffix(".py").is_file() else path.rpartition(".")[0]


def _name(module):
    top = module.split(".")[0]
    return module if top in PROJECT else PACKAGES.get(top, top.replace("_", "-"))


def imported(room):
    """What the modules of a folder import of others, and which module does: name -> paths."""
    found = {}
    for path in sorted((ROOT / room).rglob("*.py")):
        for name in imports(path.read_text(encoding="utf-8")):
            if name.split(".")[0] != room:
                found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
TABLE = allowed(PAGE)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_the_table_says(room):
    others = {name: paths for name, paths in imported(room).items() if name.split(".")[0] != "core"}
    unlisted = {name: paths for name, paths in others.items() if name not in TABLE[room]}
    assert not unlisted, f"docs/architecture.md does not let {room}/ import this"
    assert not TABLE[room] - set(others), f"{room}/ imports this nowhere: take it out of docs/architecture.md"


def test_core_imports_no_room():
    assert not {name for name in imported("core") if name.split(".")[0] in PROJECT}


def test_what_is_imported_is_declared_and_explained():
    used = {name for folder in PROJECT for name in imported(folder) if name.split(".")[0] not in PROJECT} - OPTIONAL
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [*project["dependencies"], *(one for group in project["optional-dependencies"].values() for one in group)]
    declared = {re.match(r"[\w-]+", one)[0] for one in stated}
    assert not used - declared, "imported, but in no list of pyproject.toml"
    cells = re.findall(r"^\| (.+?)(?: \(.+\))? \|", PAGE.split("## Dependencies")[1], flags=re.MULTILINE)
    explained = {name.split()[0].lower() for cell in cells for name in cell.split(", ")} - {"package"}
    assert declared == explained, "the dependencies of pyproject.toml and those of docs/architecture.md differ"


def test_imports_are_found_wherever_they_stand():
    source = "import os\nfrom core import files\ndef f():\n    from skimage.measure import marching_cubes\n"
    assert imports(source) == {"core.files", "scikit-image"}
    assert imports("from methods.registry import resolve\nimport torch.nn") == {"methods.registry", "torch"}


def test_the_table_is_read_as_it_is_written():
    cell = "pandas, Pillow (a reason, or two); of `data/`: store and, for pictures, render; never torch"
    assert allowed(f"| `reports/` | rows | tables | {cell} |") == {
        "reports": {"pandas", "pillow", "data.store", "data.render"}
    }
    assert "torch" in TABLE["methods"] and "torch" not in TABLE["reports"]
    assert not any(name.startswith("evaluation.") for name in TABLE["methods"])
