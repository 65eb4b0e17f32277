"""What a scale's configuration says about the data and the settings, without the pipeline: YAML only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.errors import UserError
from core.identity import ROOT
from methods.contract import Sizes
from methods.registry import SCALES
from methods.settings import known, read_yaml

CONFIG = ROOT / "config"


def configuration(scale: str) -> dict[str, Any]:
    """`config/config.yaml` with the scale's file over it, one level deep (what is asked for here is no deeper)."""
    if scale not in SCALES:
        raise known("scale", scale, SCALES)
    config = read_yaml(CONFIG / "config.yaml")
    path = CONFIG / f"{scale}.yaml"
    for key, value in (read_yaml(path) if path.exists() else {}).items():
        old = config.get(key)
        config[key] = {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return config


def sizes_of(config: Mapping[str, Any]) -> Sizes:
    """Points and pixels that a step reads of the prepared data."""
    prepare = config["prepare"]
    return Sizes(points=prepare.get("drawn", prepare["points"]), image_size=prepare["image_size"])


def settings_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(method, variant) of every setting and control that a table or figure asks for, each once."""
    sections = [value for value in config.values() if isinstance(value, Mapping)]
    names = [n for section in sections for key in ("settings", "controls") for n in section.get(key, ())]
    return parsed(dict.fromkeys(names))


def parsed(names: Iterable[str]) -> list[tuple[str, str]]:
    """`method/variant` as pairs; UserError for what is not of this form."""
    pairs = []
    for name in names:
        method, _, variant = name.partition("/")
        if not variant:
            raise UserError(f"{name!r} is not method/variant, for example mar3d/full")
        pairs.append((method, variant))
    return pairs
