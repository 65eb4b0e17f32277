"""From a method's `config.yaml` to its `MethodSpec`, or to one sentence that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError, known
from core.yaml_files import merged, read_yaml, validate
from methods.specs import EXTERNAL, HARDWARE, MethodSpec, StageDeclaration, VariantSpec

SCHEMA = Path(__file__).with_name("method.schema.yaml")


def read_method(path: Path) -> MethodSpec:
    """The method of a `config.yaml` by itself; what it takes of others is checked by `check_borrowed`."""
    name = f"methods/{path.parent.name}/config.yaml"
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise UserError(f"{name}: the file is not a mapping of keys to values")
    for section in ("params", "stages", "scales"):  # `full:` with nothing behind it reads as null and means nothing
        if section in config and config[section] is None:
            config[section] = {}
    for section in ("variants", "scales"):
        if isinstance(config.get(section), dict):
            config[section] = {key: {} if value is None else value for key, value in config[section].items()}
    if config.get("kind") == EXTERNAL:
        config = _with_external_base(config, path.parent.parent / EXTERNAL / "config.yaml", name)
    validate(config, SCHEMA, name)
    if config["name"] != path.parent.name:
        raise UserError(f"{name}: name is {config['name']!r} but the folder is {path.parent.name!r}; make them equal")
    if config.get("reads_ground_truth") and config["kind"] != "control":
        raise UserError(f"{name}: only a control may read the ground truth; set kind: control")
    stages = _read_stages(config, name)
    variants = {key: _read_variant(key, value, stages, name) for key, value in config["variants"].items()}
    return MethodSpec(
        name=config["name"],
        label=config["label"],
        summary=config["summary"],
        kind=config["kind"],
        entry=config["entry"],
        reads_ground_truth=config.get("reads_ground_truth", False),
        stochastic=config.get("stochastic", True),
        seeded_training=config.get("seeded_training", config.get("stochastic", True)),
        references=tuple(config.get("references", ())),
        links=config.get("links", {}),
        stages=stages,
        params=config["params"],
        params_from={owner: tuple(sections) for owner, sections in config.get("params_from", {}).items()},
        scales=config.get("scales", {}),
        variants=variants,
        resources=config.get("resources", {}),
        folder=path.parent,
    )


def _with_external_base(config: Mapping[str, Any], base_path: Path, name: str) -> dict[str, Any]:
    """An external method's config with what it does not say: the class, its stage, params, one variant."""
    base = read_yaml(base_path)
    shared = {key: base[key] for key in ("entry", "stochastic", "params", "resources")}
    shared["stages"] = {stage: {"from": EXTERNAL} for stage in base["stages"]}
    shared["variants"] = {"full": {"label": config.get("label", name)}}
    if isinstance(config.get("params"), Mapping):
        config = {**config, "params": merged(base["params"], config["params"], name)}
    return {**shared, **config}


def _read_stages(config: Mapping[str, Any], name: str) -> dict[str, StageDeclaration]:
    declared = {
        key: StageDeclaration(
            key,
            tuple(value.get("reads", ())),
            {need: None for need in value.get("needs", ())} | value.get("needs_if", {}),
            value.get("from"),
            value.get("on_request", False),
        )
        for key, value in config.get("stages", {}).items()
    }
    for stage in declared.values():
        sections = [*config["params"], *(s for names in config.get("params_from", {}).values() for s in names)]
        for read in stage.reads:
            section = read.partition(".")[0]
            if section == HARDWARE:
                raise UserError(f"{name}: stage {stage.name} reads {HARDWARE!r}, which every stage may; take it out")
            if section not in sections:
                error = known("param", read, sections)
                raise UserError(f"{name}: stage {stage.name} reads what is not there: {error}")
            whole = next((other for other in stage.reads if read.startswith(f"{other}.")), None)
            if whole is not None:
                raise UserError(f"{name}: stage {stage.name} reads {whole!r} and {read!r} of it; take one out")
        for need, condition in stage.needs.items():
            if need not in declared:
                raise UserError(f"{name}: stage {stage.name} needs what is not there: {known('stage', need, declared)}")
            if condition and not {condition, condition.partition(".")[0]} & set(stage.reads):
                raise UserError(f"{name}: stage {stage.name} needs {need!r} if {condition}, but does not read that")
    ordered: dict[str, StageDeclaration] = {}
    while len(ordered) < len(declared):
        waiting = [stage for key, stage in declared.items() if key not in ordered]
        ready = [stage.name for stage in waiting if all(need in ordered for need in stage.needs)]
        if not ready:
            names = ", ".join(stage.name for stage in waiting)
            raise UserError(f"{name}: the stages {names} need each other in a circle; take one `needs` out")
        ordered[ready[0]] = declared[ready[0]]
    return ordered


def _read_variant(key: str, value: Mapping[str, Any], stages: Mapping[str, StageDeclaration], name: str) -> VariantSpec:
    chosen = value.get("stages")
    for stage in chosen or ():
        if stage not in stages:
            raise UserError(f"{name}: variants.{key}.stages: {known('stage', stage, stages)}")
        for need in stages[stage].needs:
            if need not in chosen:
                raise UserError(f"{name}: variants.{key}.stages has {stage!r} but not {need!r}, which it needs; add it")
    return VariantSpec(
        name=key,
        label=value.get("label", key),
        params=value.get("params", {}),
        scales=value.get("scales", {}),
        stages=None if chosen is None else tuple(chosen),
        published=value.get("published"),
    )


def check_borrowed(method: MethodSpec, methods: Mapping[str, MethodSpec]) -> None:
    """Raise UserError for params and stages that a method takes of others, and that those do not have."""
    for name, sections in method.params_from.items():
        where = f"methods/{method.name}/config.yaml: params_from"
        if name not in methods:
            raise UserError(f"{where}: {known('method', name, methods)}")
        if methods[name].params_from:
            source = next(iter(methods[name].params_from))
            raise UserError(f"{where}: {name} takes params from {source} itself; name {source!r}")
        for section in sections:
            if section not in methods[name].params:
                raise UserError(f"{where}.{name}: {known('param', section, methods[name].params)}")
            if section in method.params:
                raise UserError(f"{where}.{name}: {section!r} stands in params as well; take one out")
    for stage in method.stages.values():
        if stage.borrowed_from is None:
            continue
        where = f"methods/{method.name}/config.yaml: stages.{stage.name}.from"
        owner = methods.get(stage.borrowed_from)
        if owner is None:
            raise UserError(f"{where}: {known('method', stage.borrowed_from, methods)}")
        if stage.name not in owner.stages:
            raise UserError(f"{where}: {known(f'stage of {owner.name}', stage.name, owner.stages)}")
        if owner.stages[stage.name].borrowed_from:
            raise UserError(f"{where}: {owner.name} borrows it itself; name {owner.stages[stage.name].borrowed_from!r}")
        for need in owner.stages[stage.name].needs:
            if need not in method.stages or method.stages[need].borrowed_from != owner.name:
                raise UserError(f"{where}: {owner.name}'s {stage.name!r} needs {need!r}; borrow that as well")
