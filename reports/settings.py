"""Settings of a table from the methods' own configs: labels, which are controls, what the paper calls them."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import UserError, known
from methods import registry, specs


@dataclass(frozen=True)
class Setting:
    """One row of a table. `control`: '' or why it is no competitor; `published`: row of the paper's table."""

    method: str
    variant: str
    label: str
    control: str = ""
    published: str | None = None

    @property
    def name(self) -> str:
        """`mar3d/full`."""
        return f"{self.method}/{self.variant}"


def setting(name: str) -> Setting:
    """The setting `method/variant`. Raises UserError for an unknown one."""
    method, variant = specs.parse_setting(name)
    spec = registry.get_method(method)
    if variant not in spec.variants:
        raise known(f"variant of {method}", variant, spec.variants)
    chosen = spec.variants[variant]
    control = "" if spec.kind != "control" else "control, sees the truth" if spec.reads_ground_truth else "control"
    label = chosen.label if chosen.label.startswith(spec.label) else f"{spec.label}: {chosen.label}"
    return Setting(method, variant, label, control, chosen.published)


def differs_by_seed(name: str) -> bool:
    """Whether another seed gives a setting other meshes; so it is taken to be where no method offers it."""
    found = registry.load_methods().get(specs.parse_setting(name)[0])
    return found is None or found.differs_by_seed


def planned(name: str, label: str | None = None) -> Setting:
    """The setting of a name that a report plans for: one that no method offers yet is named after itself."""
    method, variant = specs.parse_setting(name)
    try:
        found = setting(name)
    except UserError:
        found = Setting(method, variant, name)
    return found if label is None else Setting(method, variant, label, found.control, found.published)
