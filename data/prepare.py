"""From raw meshes to prepared shards: load, normalise, make solid, sample, label, render, store.

Each object is made on its own, with random streams named after it, so a shard does not depend on its neighbours or
on the order of work: the same arguments give the same bytes. An object that cannot be prepared becomes a line of the
shard's quarantine file, with the reason; the rest goes on.

Importing this module is cheap: geometry packages are imported when the first object is made.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.files import write_text
from core.progress import Progress
from data.quarantine import as_text, quarantine_path, read_quarantine

if TYPE_CHECKING:
    from data.sources import ObjectSpec
    from data.store import PreparedObject

# What a person gets who says nothing; the scales of config/ say everything.
DEFAULTS: dict[str, Any] = {
    "points": 4096,  # surface points; /4 and /16 are the coarser pyramid levels
    "volume": 16384,  # occupancy queries in the whole box
    "near": 16384,  # occupancy queries near the surface, in equal parts per sigma
    "sigmas": [0.005, 0.02],  # their distances, in units of the box [-1.05, 1.05]
    "grid": 128,  # resolution of the watertight surface
    "faces": 20000,  # a stored ground-truth mesh is decimated to this
    "azimuths": 8,  # upright views
    "first_azimuth": 0.0,  # of the upright views, degrees; the others follow evenly
    "rotations": 1,  # further views with a random object rotation, per azimuth
    "val_rotations": 0,  # the same for val and test
    "image_size": 128,  # pixels
    "supersample": 2,  # squared: rays per pixel
    "image_format": "webp",  # or png
    "keep": [],  # of normal, depth
    "shading": "clay",  # or texture: the mesh's own colours where it has some
}
OPTIONAL = {"drawn"}  # of the surface points, how many a method reads of an object at once; all of them if not said
LEAST = {"points": 16, "volume": 0, "near": 0, "grid": 48, "faces": 100}
LEAST |= {"azimuths": 1, "rotations": 0, "val_rotations": 0, "image_size": 8, "supersample": 1}
CHOICES = {"image_format": ("webp", "png"), "shading": ("clay", "texture")}


def shard_count(specs: Sequence[ObjectSpec], split: str, shard_size: int) -> int:
    """How many shards a split fills."""
    return -(-sum(spec.split == split for spec in specs) // shard_size)


def shard_specs(specs: Sequence[ObjectSpec], split: str, shard: int, shard_size: int) -> list[ObjectSpec]:
    """The objects of one shard."""
    return [spec for spec in specs if spec.split == split][shard * shard_size : (shard + 1) * shard_size]


def shard_path(folder: str | Path, split: str, shard: int) -> Path:
    """Where a shard is written."""
    return Path(folder) / split / f"{shard:05d}.safetensors"


def check_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with the defaults filled in; a UserError for an unknown name or an impossible value."""
    unknown = sorted(set(params) - set(DEFAULTS) - OPTIONAL)
    if unknown:
        raise UserError(f"unknown prepare parameter {unknown[0]!r}: choose from {', '.join([*DEFAULTS, *OPTIONAL])}")
    params = {**DEFAULTS, **params}
    for name, least in LEAST.items():
        if not isinstance(params[name], int) or params[name] < least:
            raise UserError(
                f"prepare parameter {name} is {params[name]!r}, it must be a whole number of at least {least}"
            )
    drawn = params.get("drawn", params["points"])
    if not isinstance(drawn, int) or drawn < LEAST["points"] or params["points"] % drawn:
        raise UserError(
            f"prepare parameter drawn is {drawn!r}: it must be at least {LEAST['points']}, and divide the"
            f" {params['points']} points"
        )
    if not params["sigmas"] or not all(isinstance(sigma, int | float) and sigma > 0 for sigma in params["sigmas"]):
        raise UserError(f"prepare parameter sigmas is {params['sigmas']!r}: it is a list of positive numbers")
    for name, choices in CHOICES.items():
        if params[name] not in choices:
            raise UserError(f"prepare parameter {name} is {params[name]!r}: choose one of {', '.join(choices)}")
    if not set(params["keep"]) <= {"normal", "depth"}:
        raise UserError(f"prepare parameter keep is {params['keep']}: it is a list of normal and depth")
    return params


def split_params(params: Mapping[str, Any], split: str) -> dict[str, Any]:
    """The parameters that hold for one split: val and test have their own number of rotations."""
    params = check_params(params)
    val_rotations = params.pop("val_rotations")
    return params if split == "train" else {**params, "rotations": val_rotations}


def prepare_shard(
    specs: Sequence[ObjectSpec], source: Mapping[str, Any], params: Mapping[str, Any], out: str | Path, *, dataset: str
) -> tuple[int, int]:
    """Prepare the objects of one shard (all of one split) into `out`; returns (objects kept, objects left out).

    The quarantine file is written first and the shard renamed into place last, so a shard that exists is whole.
    """
    from data.objects import prepare_object  # before the loop: a package that is missing is no object's fault
    from data.sources import acquired
    from data.store import write_shard

    out = Path(out)
    specs = acquired(specs, source)
    split = specs[0].split if specs else out.parent.name
    params = split_params(params, split)
    kept: list[PreparedObject] = []
    left_out: list[tuple[str, str, str, str]] = []
    progress = Progress(f"prepare {dataset} {split} {out.stem}", len(specs))
    for k, spec in enumerate(specs):
        try:
            kept.append(prepare_object(spec, source, params, dataset=dataset))
        except MemoryError:
            raise
        except Exception as error:
            left_out.append((spec.object, spec.source, spec.path or "", reason_of(error)))
        progress.update(k + 1, f"{len(left_out)} left out" if left_out else "")
    write_text(quarantine_path(out), as_text(left_out))
    write_shard(out, params, kept)
    if left_out:
        print(f"{out}: left out {len(left_out)} of {len(specs)} objects, see {quarantine_path(out)}", file=sys.stderr)
    return len(kept), len(left_out)


def reason_of(error: Exception) -> str:
    """Why an object was left out, in one line."""
    from data.load import BadMesh

    text = " ".join(str(error).split())
    if isinstance(error, BadMesh):
        return text
    return f"could not be prepared ({type(error).__name__}: {text})"[:300]


def already_prepared(path: Path, specs: Sequence[ObjectSpec], params: Mapping[str, Any]) -> bool:
    """Whether this shard exists and holds just these objects and parameters; a UserError if it holds others."""
    from data.store import read_header

    if not path.exists():
        return False
    header = read_header(path)
    held = {about["object"] for about in header["objects"]} | {row[0] for row in read_quarantine(quarantine_path(path))}
    if header["params"] != split_params(params, path.parent.name) or held != {spec.object for spec in specs}:
        raise UserError(
            f"{path} was prepared from other objects or with other parameters: choose another folder or delete it"
        )
    return True
