"""Rows of a table from the methods' own configs: labels, which are controls, what the paper calls them."""

from __future__ import annotations

from core.errors import UserError
from methods import registry
from methods.settings import known
from reports.table2 import Setting


def setting(name: str) -> Setting:
    """The setting `method/variant`. Raises UserError for an unknown one."""
    method, separator, variant = name.partition("/")
    if not separator:
        raise UserError(f"{name!r} is not method/variant, for example mar3d/full")
    spec = registry.get_method(method)
    if variant not in spec.variants:
        raise known(f"variant of {method}", variant, spec.variants)
    chosen = spec.variants[variant]
    control = "" if spec.kind != "control" else "control, sees the truth" if spec.reads_ground_truth else "control"
    label = chosen.label if chosen.label.startswith(spec.label) else f"{spec.label}: {chosen.label}"
    return Setting(method, variant, label, control, chosen.published)
