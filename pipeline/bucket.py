"""Jobs in pods: the commands of the rules name `runs/…`, and with a storage plugin Snakemake declares other paths.

What a rule declares is then in a bucket, with a local copy below `local-storage-prefix`. Weights, meshes and unfinished
work are not declared, and every pod starts with an empty working directory. So the folder of local copies is a volume
that all pods share (profiles/kubernetes), and `runs` becomes a link to its place there: a declared file is where the
command writes it, and what lies beside it is there for the next pod, or for the same one when it is tried again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.errors import UserError
from pipeline.artefacts import ARTEFACTS
from pipeline.dag import RUNS, Dag


def link_runs(workflow: Any, folder: Path = Path(RUNS)) -> None:
    """Let `folder` be the place of the local copies, if `workflow` (Snakemake's) has a default storage provider.

    Raises UserError if something else than a link is there.
    """
    if workflow.storage_settings.default_storage_provider is None:
        return
    place = _local(workflow, RUNS)
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        raise UserError(
            f"{folder.absolute()} holds results of runs on this machine, and with a bucket it becomes a link to the"
            " local copies: move it away, or start from another checkout"
        )
    place.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(place, target_is_directory=True)


def check(workflow: Any, dag: Dag) -> None:
    """Raises UserError if a run with a bucket needs files that are in none: meshes and rows of this machine."""
    if workflow.storage_settings.default_storage_provider is None:
        return
    if dag.source["source"] == "folder":
        raise UserError(
            f"the dataset {dag.dataset!r} is a folder of this machine, which pods do not see: run all of it in one pod"
            " (profiles/kubernetes/job.yaml)"
        )
    if beside := [name for name in ARTEFACTS if dag.config[name].get("rows")]:
        raise UserError(
            f"{beside[0]}.rows names files of this machine, which are in no bucket: make the table where its rows are"
        )


def bring_home(workflow: Any, files: Iterable[str]) -> None:
    """Copy tables and figures from the local copies to where a run without a bucket writes them."""
    if workflow.storage_settings.default_storage_provider is None:
        return
    for name in files:
        if (copy := _local(workflow, name)).is_file():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(copy, name)


def _local(workflow: Any, name: str) -> Path:
    """Where Snakemake keeps its local copy of a path of the bucket."""
    query = f"{workflow.storage_settings.default_storage_prefix.rstrip('/')}/{name}"
    return Path(workflow.storage_registry.default_storage_provider.object(query).local_path()).absolute()
