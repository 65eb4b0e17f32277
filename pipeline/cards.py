"""Cards for jobs: Snakemake counts GPUs but does not choose them, so each job takes its own here.

A card is locked by a file below $TMPDIR (by default /tmp, which the users of a machine share), and the lock dies with
the job. Where SLURM has given the job no more than it asks for, nothing is done; in an allocation or a pod of several
cards, jobs share them out as on a machine.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from core.errors import UserError
from pipeline import lock

VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")
WSL = "dxg"
"""Of Linux under Windows: one device for all cards, of which CUDA shows the first."""
ALLOCATION = "SLURM_JOB_ID"
NONE = ("-1", "NoDevFiles")
"""How people and SLURM write that there is no card; CUDA sees none from such a name on."""


def cards() -> list[str]:
    """The cards that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    if VISIBLE in os.environ:
        names = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return list(itertools.takewhile(lambda name: name and name not in NONE, names))
    found = [path for path in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    found = found or [path for path in (DEVICES / WSL,) if path.exists()]
    return [str(number) for number in range(len(found))]  # CUDA counts the cards that a container shows from 0


def shows_any() -> bool:
    """Whether this machine, or what a scheduler gave of it, shows any card."""
    if VISIBLE in os.environ:
        return bool(cards())
    return any((DEVICES / name).exists() for name in ("nvidiactl", WSL))


def choose(count: int, folder: Path | None = None) -> None:
    """Wait for `count` free cards, lock them until this process ends, and let CUDA see only them.

    count: 0 hides all cards. folder: of the lock files; by default one for all users of this machine, and one for each
    SLURM allocation. Raises UserError if the machine does not have that many.
    """
    if count == 0:
        os.environ[VISIBLE] = ""
        return
    names, allocation = cards(), os.environ.get(ALLOCATION)
    if allocation and len(names) <= count:  # fewer: the others are on the allocation's other nodes
        return
    if len(names) < count:
        raise UserError(
            f"this job asks for {count} GPUs and this machine shows {len(names)}; lower `gpu` in the profile"
        )
    if folder is None:  # allocations on one machine may each call their cards 0, 1, …
        name = "-".join(["mesh-benchmark-cards", *([allocation] if allocation else [])])
        folder = _for_all(Path(tempfile.gettempdir()) / name)
    told = False
    while not (chosen := lock.take_some([folder / f"{name}.lock" for name in names], count)):
        if not told:
            print(f"waiting for a free GPU among {', '.join(names)}", file=sys.stderr, flush=True)
            told = True
        time.sleep(0.5)
    os.environ[VISIBLE] = ",".join(path.stem for path in chosen)
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as nvidia-smi counts them, which reads their energy


def _for_all(folder: Path) -> Path:
    """The folder, in which every user may make files that nobody else may remove, as in /tmp itself."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(0o1777)  # mkdir's own mode is cut down by the umask
    return folder
