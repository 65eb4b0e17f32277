"""Which methods there are, and what their variants resolve to.

Everything here comes from `methods/*/config.yaml`; no method's code and no torch is imported, so listing is
free and the DAG can name every path before anything has run.

    plan = resolve("mar3d", "no_mar_hr", "cpu")
    plan.params                              # base <- scale <- variant <- variant at that scale
    for stage in plan.stages:                # in the order in which they are trained
        places.stage_folder(runs, dataset, "cpu", stage, seed=0)

A stage's key is a hash of the params that the stage reads (`mar`, or `mar.dropout` alone) and of its upstream
stages' keys. Two variants, or two methods, that agree on these name the same folder, so the stage is trained once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError, known
from core.identity import ROOT, params_key
from core.yaml_files import merged, validate
from methods.declarations import check_borrowed, read_method
from methods.specs import HARDWARE, PAPER, PAPER_GPUS, SCALES, MethodSpec, Plan, StageSpec, VariantSpec

PARAMS_SCHEMA = "params.schema.yaml"  # of a method's folder, if it has one: which values its params may take


def load_methods(folder: Path = ROOT / "methods") -> dict[str, MethodSpec]:
    """Every method under `folder`, by name, in alphabetical order. Raises UserError for a bad config."""
    return _load_methods(folder)


@functools.cache  # of a function without defaults: with them, a folder given and the same one left out are two entries
def _load_methods(folder: Path) -> dict[str, MethodSpec]:
    paths = sorted(folder.glob("*/config.yaml"))
    methods = {path.parent.name: read_method(path) for path in paths}
    for method in methods.values():
        check_borrowed(method, methods)
        values = method.folder / PARAMS_SCHEMA
        for variant in method.variants.values():  # a misspelt param is found before anything runs, at every scale
            for scale in SCALES:
                params = _resolve_params(method, variant, scale, methods)
                if values.exists():
                    where = f"methods/{method.name}/config.yaml: params of {variant.name} at scale {scale}"
                    validate(params, values, where)
                for stage in method.stages.values():
                    picked(params, stage.reads, f"methods/{method.name}/config.yaml: stage {stage.name}")
    return methods


def get_method(name: str, folder: Path = ROOT / "methods") -> MethodSpec:
    """The method of this name; UserError with the known names otherwise."""
    methods = load_methods(folder)
    if name not in methods:
        raise known("method", name, methods)
    return methods[name]


def _resolve_params(
    method: MethodSpec, variant: VariantSpec, scale: str, methods: Mapping[str, MethodSpec]
) -> dict[str, Any]:
    where = f"methods/{method.name}/config.yaml: {PAPER_GPUS}"
    return _of_all_gpus(_merged_params(method, variant, scale, methods), scale, where)


def _of_all_gpus(params: Mapping[str, Any], scale: str, where: str) -> dict[str, Any]:
    """The params without PAPER_GPUS; at scale `paper` with each batch times as much, and steps divided by it.

    Numbers of steps are rounded up. Batches of other scales are not the paper's.
    """
    result = {key: value for key, value in params.items() if key != PAPER_GPUS}
    gpus = params.get(PAPER_GPUS, 1)
    if not isinstance(gpus, int) or gpus < 1:
        raise UserError(f"{where} is {gpus}: it must be a whole number of at least 1")
    if gpus == 1 or scale != PAPER:
        return result
    for key, section in result.items():
        if isinstance(section, Mapping) and "training" in section:
            training = dict(section["training"])
            phases = {name: -(-steps // gpus) for name, steps in (training.get("phases") or {}).items()}
            training |= {"batch": training["batch"] * gpus, "steps": -(-training["steps"] // gpus)}
            training |= {"phases": phases, "steps": sum(phases.values())} if phases else {}
            result[key] = {**section, "training": training}
    return result


def paper_gpus(method: str, variant: str, scale: str, folder: Path = ROOT / "methods") -> int:
    """Of how many GPUs, as the paper has them, the batches of a setting are: its PAPER_GPUS, or its owner's."""
    methods, spec = load_methods(folder), get_method(method, folder)
    settings = [(spec, spec.variants[variant])]
    settings += [(methods[name], methods[name].variants[methods[name].first_variant]) for name in spec.params_from]
    return max(_merged_params(one, chosen, scale, methods).get(PAPER_GPUS, 1) for one, chosen in settings)


def _merged_params(
    method: MethodSpec, variant: VariantSpec, scale: str, methods: Mapping[str, MethodSpec]
) -> dict[str, Any]:
    where = f"methods/{method.name}/config.yaml"
    base = dict(method.params)
    for name in method.params_from:
        owner = methods[name]
        theirs = _resolve_params(owner, owner.variants[owner.first_variant], scale, methods)
        base |= {section: theirs[section] for section in method.params_from[name]}
    params = merged(base, method.scales.get(scale, {}), f"{where}: scales.{scale}")
    params = merged(params, variant.params, f"{where}: variants.{variant.name}.params")
    return merged(params, variant.scales.get(scale, {}), f"{where}: variants.{variant.name}.scales.{scale}")


def picked(params: Mapping[str, Any], reads: Iterable[str], name: str) -> dict[str, Any]:
    """What `reads` names of params: whole sections, and of others (`section.key`) the keys named alone.

    Raises UserError, which begins with `name`, for a key that is not there.
    """
    found: dict[str, Any] = {}
    for read in reads:
        *sections, key = read.split(".")
        place, source = found, params
        for section in sections:
            place, source = place.setdefault(section, {}), source.get(section)
            if not isinstance(source, Mapping):
                raise UserError(f"{name} reads {read!r}, but {section} is no section of params")
        if key not in source:
            raise UserError(f"{name} reads what is not there: {known('param', read, _below(source, sections))}")
        place[key] = source[key]
    return found


def _value(params: Mapping[str, Any], read: str, name: str) -> Any:
    found = picked(params, [read], name)
    return functools.reduce(lambda section, key: section[key], read.split("."), found)


def _below(source: Mapping[str, Any], sections: list[str]) -> list[str]:
    return [".".join([*sections, key]) for key in source]


def resolve(method: str, variant: str, scale: str, folder: Path = ROOT / "methods") -> Plan:
    """The plan of a method's variant at a scale; UserError for an unknown name."""
    return _resolve(method, variant, scale, folder)


@functools.cache
def _resolve(method: str, variant: str, scale: str, folder: Path) -> Plan:
    spec = get_method(method, folder)
    if variant not in spec.variants:
        raise known(f"variant of {method}", variant, spec.variants)
    if scale not in SCALES:
        raise known("scale", scale, SCALES)
    chosen = spec.variants[variant]
    params = _resolve_params(spec, chosen, scale, load_methods(folder))
    stages: dict[str, StageSpec] = {}
    for name, stage in spec.stages.items():
        if stage.on_request if chosen.stages is None else name not in chosen.stages:
            continue
        if stage.borrowed_from is not None:
            owner = get_method(stage.borrowed_from, folder)
            stages[name] = resolve(owner.name, owner.first_variant, scale, folder).stage(name)
            continue
        where = f"methods/{method}/config.yaml: stage {name}"
        subset = picked(params, stage.reads, where)
        needs = tuple(need for need, at in stage.needs.items() if at is None or _value(subset, at, where))
        upstream = {need: stages[need].key for need in needs}
        key = params_key({"owner": method, "stage": name, "params": subset, "upstream": upstream})
        stages[name] = StageSpec(method, name, key, needs, subset)
    return Plan(spec, chosen, scale, params, tuple(_in_order(stages)))


def _in_order(stages: Mapping[str, StageSpec]) -> list[StageSpec]:
    ordered: list[StageSpec] = []
    waiting = list(stages.values())
    while waiting:  # borrowed stages say what they need only now, so the order is settled here
        done = {stage.name for stage in ordered}
        stage = next(stage for stage in waiting if done.issuperset(stage.needs))
        ordered.append(stage)
        waiting.remove(stage)
    return ordered


def fitting_variant(stage: StageSpec, scale: str, folder: Path = ROOT / "methods") -> str:
    """A variant of the stage's owner that trains exactly this stage (the first one listed)."""
    owner = get_method(stage.owner, folder)
    for variant in (owner.first_variant, *owner.variants):
        if stage in resolve(owner.name, variant, scale, folder).stages:
            return variant
    raise UserError(f"no variant of {stage.owner} trains {stage.folder_name} at scale {scale}; its params have changed")


def deciding(params: Mapping[str, Any]) -> dict[str, Any]:
    """The params that decide a result: all but how the work is done."""
    return {key: value for key, value in params.items() if key != HARDWARE}
