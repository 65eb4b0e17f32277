"""The configuration of a run: defaults, the scale's file, the command line; checked before anything starts.

    config/config.yaml  <-  config/{scale}.yaml  <-  --configfile and --config

so that `--config scale=smoke` and `--configfile config/smoke.yaml` mean the same. Every mistake is one
sentence (`UserError`): an unknown key, scale, dataset, method, variant or protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from core.errors import UserError, known
from core.identity import ROOT, params_key
from core.yaml_files import laid_over, read_yaml, validate
from data.sources import DOWNLOADED
from evaluation import protocol
from methods import registry, specs
from pipeline.artefacts import ARTEFACTS, protocol_of

FOLDER = ROOT / "config"
SCHEMA = FOLDER / "config.schema.yaml"
TEXT = ("dataset", "root", "index", "path", "trained_on")  # stay text even where they look like a number
_SCALAR = re.compile(r"[-+.\w]+")


def load(given: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration for what the command line gave. Raises UserError with one sentence."""
    config = read_yaml(FOLDER / "config.yaml")
    scale = given.get("scale", config["scale"])
    if scale not in specs.SCALES:
        raise known("scale", scale, specs.SCALES)
    if (FOLDER / f"{scale}.yaml").exists():
        config = laid_over(config, read_yaml(FOLDER / f"{scale}.yaml"))
    config = laid_over(config, {key: _typed(value, key) for key, value in given.items()})
    validate(config, SCHEMA, "the configuration")
    config = _with_dataset(config)
    protocol.load(config["evaluation"]["protocol"])
    if config["evaluation"]["views"] > config["prepare"]["azimuths"]:
        raise UserError(
            f"evaluation.views is {config['evaluation']['views']}, but prepare.azimuths makes only"
            f" {config['prepare']['azimuths']} upright views of an object"
        )
    for name in ARTEFACTS:
        _check_artefact(name, config, scale)
    return config


def _check_artefact(name: str, config: Mapping[str, Any], scale: str) -> None:
    declared, own = config[name], protocol_of(config, name)
    protocol.load(own)
    for run in [*declared.get("settings", ()), *declared.get("controls", ())]:
        try:
            plan = registry.resolve(*specs.parse_setting(run), scale)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        _check_images(run, plan.params, config["prepare"]["image_size"])
    for path in declared.get("rows", ()):
        if not (ROOT / path).is_file():
            raise UserError(f"{name}.rows: there is no file {ROOT / path}")
    for other in declared.get("of", ()):
        if other not in ARTEFACTS:
            raise UserError(f"{name}.of: {known('artefact', other, ARTEFACTS)}")
        if (theirs := protocol_of(config, other)) != own and not ARTEFACTS[name].mixed:
            raise UserError(
                f"{name}.of: the rows of {other} are of protocol {theirs}, those of {name} of {own}: give both the same"
                " `protocol`"
            )


def _check_images(run: str, params: Mapping[str, Any], image_size: int) -> None:
    """An encoder that cuts images into patches needs whole ones; said here, before the stages before it are trained."""
    encoder = params.get("image_encoder", {})
    patch = encoder["scratch"]["patch"] if encoder.get("name") == "scratch" else 1
    if image_size % patch:
        raise UserError(
            f"prepare.image_size is {image_size}, which the patches of {run} ({patch} pixels) do not divide: take a"
            f" multiple of {patch}"
        )


def _typed(value: Any, key: str) -> Any:
    """A value of the command line with its type: Snakemake reads what is inside lists and mappings as text."""
    if isinstance(value, Mapping):
        return {name: _typed(child, name) for name, child in value.items()}
    if isinstance(value, list):
        return [_typed(child, key) for child in value]
    if key in TEXT:
        return value if value is None else str(value)
    if isinstance(value, str):
        read = yaml.safe_load(value) if _SCALAR.fullmatch(value) else value
        return read if isinstance(read, bool | int | float | None) else value
    return value


def _with_dataset(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with `dataset` a name; the path of a folder gets a name and an entry of its own."""
    name, datasets = config["dataset"], dict(config["datasets"])
    if name not in datasets:
        folder = Path(name).expanduser()
        if "/" not in name and not folder.is_dir():
            raise UserError(f"{known('dataset', name, datasets)}; or give the path of a folder of meshes")
        if not folder.is_dir():
            names = ", ".join(datasets)
            raise UserError(f"there is no folder {name!r}; dataset is a name ({names}) or a folder of meshes")
        source: dict[str, Any] = {"source": "folder", "root": str(folder.resolve())}
        if (folder / "index.csv").is_file():
            source["index"] = "index.csv"
        word = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_") or "folder"
        name = f"{word}_{params_key(source['root'], 6)}"
        datasets[name] = source
    other = datasets[name].get("trained_on")
    if other and (other not in datasets or other == name):
        raise UserError(
            f"datasets.{name}.trained_on: {known('other dataset', other, [n for n in datasets if n != name])}"
        )
    for one in (name, other) if other else (name,):
        datasets[one] = _checked(one, datasets[one])
    return {**config, "dataset": name, "datasets": datasets}


def _checked(name: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """A dataset that has what its source needs, with the root of a folder made absolute."""
    if chosen["source"] == "procedural" and "counts" not in chosen:
        raise UserError(f"datasets.{name} lacks the key 'counts'")
    if chosen["source"] in DOWNLOADED:
        for key in ("root", "lists"):
            if key not in chosen:
                raise UserError(f"datasets.{name} lacks the key {key!r}: docs/datasets.md shows one")
    if chosen["source"] == "folder":
        if "root" not in chosen:
            raise UserError(f"datasets.{name} lacks the key 'root'")
        root = (ROOT / Path(chosen["root"]).expanduser()).resolve()
        if not root.is_dir():
            raise UserError(f"the dataset {name!r} is not here: there is no folder {root}; set datasets.{name}.root")
        return {**chosen, "root": str(root)}
    return chosen
