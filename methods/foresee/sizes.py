"""What a scale's configuration says about the data and the settings, without the pipeline: YAML only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import known
from core.identity import ROOT
from core.yaml_files import laid_over, read_yaml
from methods.contract import Sizes
from methods.specs import SCALES, parse_setting

CONFIG = ROOT / "config"


def configuration(scale: str) -> dict[str, Any]:
    """`config/config.yaml` with the scale's file over it; UserError for an unknown scale."""
    if scale not in SCALES:
        raise known("scale", scale, SCALES)
    config, path = read_yaml(CONFIG / "config.yaml"), CONFIG / f"{scale}.yaml"
    return laid_over(config, read_yaml(path)) if path.exists() else config


def sizes_of(config: Mapping[str, Any]) -> Sizes:
    """Points and pixels that a step reads of the prepared data."""
    prepare = config["prepare"]
    return Sizes(points=prepare.get("drawn", prepare["points"]), image_size=prepare["image_size"])


def settings_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(method, variant) of every setting and control that a table or figure asks for, each once."""
    sections = [value for value in config.values() if isinstance(value, Mapping)]
    names = [n for section in sections for key in ("settings", "controls") for n in section.get(key, ())]
    return [parse_setting(name) for name in dict.fromkeys(names)]
