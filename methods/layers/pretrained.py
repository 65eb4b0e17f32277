"""Which pretrained models a method's params name, and where their files are. No torch: asked before anything runs.

A model is a folder with `config.json` and `model.safetensors`: the path that stands in the config, else a folder of
the model's name under $PRETRAINED_MODELS, else what the Hugging Face hub's client has in its cache or can fetch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import sha256_of

ENVIRONMENT = "PRETRAINED_MODELS"
"""The variable that names a folder of models, each under its own name: `openai/clip-vit-large-patch14/config.json`."""
WEIGHTS = "model.safetensors"
NEEDED = ("config.json", WEIGHTS)
FETCHED = (*NEEDED, "preprocessor_config.json")


@dataclass(frozen=True)
class Pretrained:
    """A model's name on the hub, or the path of its folder, and the revision that is fetched from the hub."""

    model: str
    revision: str


def wanted(params: Mapping[str, Any]) -> list[Pretrained]:
    """The pretrained models that resolved params of a method need, those of its image encoder."""
    encoder = params.get("image_encoder")
    if not isinstance(encoder, Mapping) or encoder.get("name") != "clip_dinov2":
        return []
    own = encoder["clip_dinov2"]
    kinds = ("clip",) if own["fusion"] == "clip_only" else ("clip", "dino")
    return [Pretrained(own[kind]["model"], own[kind]["revision"]) for kind in kinds]


def require(models: Iterable[Pretrained]) -> dict[Pretrained, Path]:
    """The folder of each model, fetched from the hub if it must be; UserError that names all that are missing."""
    found: dict[Pretrained, Path] = {}
    reasons: dict[str, str] = {}
    for model in dict.fromkeys(models):
        folder, reason = _local(model.model), ""
        if folder is None:
            folder, reason = _from_hub(model, network=not reasons)  # one vain wait for the network is enough
        if folder is None:
            reasons[model.model] = reason
        else:
            found[model] = folder
    if reasons:
        first, reason = next(iter(reasons.items()))
        raise UserError(
            f"the image encoder needs the weights of {' and '.join(reasons)}, which are not on this machine and could "
            f"not be fetched ({reason}): on a machine with network run `python -m methods weights --scale paper --to "
            f"FOLDER`, bring FOLDER here and set {ENVIRONMENT}=FOLDER, so that FOLDER/{first}/ holds "
            f"{' and '.join(NEEDED)}; or choose `image_encoder: {{name: scratch}}`, which needs no weights"
        )
    return found


def download(models: Iterable[Pretrained], to: Path) -> None:
    """Put models into `to`, laid out as $PRETRAINED_MODELS wants them; UserError if the hub cannot be reached."""
    for model in dict.fromkeys(models):
        if Path(model.model).is_dir():
            continue
        folder, reason = _from_hub(model, to / model.model)
        if folder is None:
            raise UserError(f"{model.model} could not be fetched ({reason}): run this where there is network")


def _whole(folder: Path) -> bool:
    return all((folder / name).is_file() for name in NEEDED)


def _local(model: str) -> Path | None:
    """The folder of a model on this machine; UserError for a folder that lacks a file, since it was meant."""
    root = os.environ.get(ENVIRONMENT)
    for folder in (Path(model), *([Path(root) / model] if root else [])):
        if _whole(folder):
            return folder
        if folder.is_dir():
            missing = [name for name in NEEDED if not (folder / name).is_file()]
            pickled = " (pickled weights such as pytorch_model.bin are not read)" if WEIGHTS in missing else ""
            raise UserError(f"{folder} lacks {' and '.join(missing)}{pickled}: put the whole model there")
    return None


def _from_hub(model: Pretrained, to: Path | None = None, *, network: bool = True) -> tuple[Path | None, str]:
    """The folder of a model of the hub, from the client's cache if it is there; or None, and why."""
    if model.model.startswith((".", "/", "~")):
        return None, f"there is no folder {model.model}"
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # its retries would be told line by line
    reason = ""
    for offline in (True, False) if to is None else (False,):
        if not (offline or network):
            break
        if not offline:
            print(f"asking the hub for {model.model}", file=sys.stderr, flush=True)
        try:
            folder = Path(
                snapshot_download(
                    model.model,
                    revision=model.revision,
                    allow_patterns=list(FETCHED),
                    local_dir=to,
                    local_files_only=offline,
                )
            )
        except Exception as error:  # no network, a proxy, no such revision: whatever it is, the user is told
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0]}"[:160]
            continue
        if _whole(folder):
            return folder, ""
        reason = f"{folder} lacks {' or '.join(NEEDED)}"
    return None, reason


def weights_hash(folder: Path) -> str:
    """SHA-256 of a model's `model.safetensors`, as `sha256sum` prints it and the hub shows it."""
    return sha256_of(folder / WEIGHTS)
