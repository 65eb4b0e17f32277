"""Which methods there are, what their variants resolve to, and where their stages live.

Everything here comes from `methods/*/config.yaml`; no method's code and no torch is imported, so listing is
free and the DAG can name every path before anything has run.

    plan = resolve("mar3d", "no_mar_hr", "cpu")
    plan.params                              # base <- scale <- variant <- variant at that scale
    for stage in plan.stages:                # in the order in which they are trained
        stage_folder(runs, dataset, "cpu", stage, seed=0)

A stage's key is a hash of the params that the stage reads (`mar`, or `mar.dropout` alone) and of its upstream
stages' keys. Two variants, or two methods, that agree on these name the same folder, so the stage is trained once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError, known
from core.identity import ROOT, params_key
from core.yaml_files import merged, read_yaml, validate

SCALES = ("smoke", "cpu", "gpu", "paper")
SCHEMA = Path(__file__).with_name("method.schema.yaml")
PARAMS_SCHEMA = "params.schema.yaml"  # of a method's folder, if it has one: which values its params may take
HARDWARE = "hardware"
"""The section of params that says how work is done; no key counts it, and every stage may read it."""
EXTERNAL = "external"
"""The kind of methods whose meshes are made elsewhere, and the folder whose code and defaults they share."""


@dataclass(frozen=True)
class StageDeclaration:
    """One entry of `stages:`; `borrowed_from` names the method that trains it, if another does.

    `reads`: sections of params, or single keys of them as `section.key`.
    `needs`: by name, each with the key of params (`section.key`) that must be true for it to be needed, or None.
    `on_request`: only variants that list the stage use it.
    """

    name: str
    reads: tuple[str, ...]
    needs: Mapping[str, str | None]
    borrowed_from: str | None
    on_request: bool = False


@dataclass(frozen=True)
class VariantSpec:
    """One entry of `variants:`; `stages` is None where the variant uses all of them but those `on_request`."""

    name: str
    label: str
    params: Mapping[str, Any]
    scales: Mapping[str, Mapping[str, Any]]
    stages: tuple[str, ...] | None
    published: str | None


@dataclass(frozen=True)
class MethodSpec:
    """A validated `config.yaml`; `stages` in the order in which they are trained.

    `params_from`: the sections of params that are another method's, whatever they are at a scale.
    """

    name: str
    label: str
    summary: str
    kind: str
    entry: str
    reads_ground_truth: bool
    stochastic: bool
    seeded_training: bool
    references: tuple[str, ...]
    links: Mapping[str, str]
    stages: Mapping[str, StageDeclaration]
    params: Mapping[str, Any]
    params_from: Mapping[str, tuple[str, ...]]
    scales: Mapping[str, Mapping[str, Any]]
    variants: Mapping[str, VariantSpec]
    resources: Mapping[str, int]
    folder: Path

    @property
    def code(self) -> str:
        """The folder under `methods/` that holds the class of `entry`: its own, or `external`."""
        return EXTERNAL if self.kind == EXTERNAL else self.name

    @property
    def differs_by_seed(self) -> bool:
        """Whether another seed gives other meshes, by its weights or by what is drawn at generation."""
        return self.stochastic or self.seeded_training

    @property
    def first_variant(self) -> str:
        """The method itself: `full`, or else the first variant listed."""
        return "full" if "full" in self.variants else next(iter(self.variants))


@dataclass(frozen=True)
class StageSpec:
    """One trained part of a plan. `params` is the subset that it reads; `needs` are names in the same plan."""

    owner: str
    name: str
    key: str
    needs: tuple[str, ...]
    params: Mapping[str, Any]

    @property
    def folder_name(self) -> str:
        """`mar3d.vae-0123456789`: the folder under `stages/`."""
        return f"{self.owner}.{self.name}-{self.key}"


@dataclass(frozen=True)
class Plan:
    """A method at one variant and scale: its params and its stages, in the order in which they are trained."""

    method: MethodSpec
    variant: VariantSpec
    scale: str
    params: Mapping[str, Any]
    stages: tuple[StageSpec, ...]

    @property
    def setting(self) -> str:
        """`mar3d/full`, see `parse_setting`."""
        return f"{self.method.name}/{self.variant.name}"

    def stage(self, name: str) -> StageSpec:
        """The stage of this name; UserError if the plan has none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise known(f"stage of {self.setting}", name, (s.name for s in self.stages))


def parse_setting(name: str) -> tuple[str, str]:
    """Method and variant of a setting, as `mar3d/full`; UserError for what is not of this form."""
    method, _, variant = name.partition("/")
    if not (method and variant):
        raise UserError(f"{name!r} is not method/variant, for example mar3d/full")
    return method, variant


# ---------------------------------------------------------------- discovery


def load_methods(folder: Path = ROOT / "methods") -> dict[str, MethodSpec]:
    """Every method under `folder`, by name, in alphabetical order. Raises UserError for a bad config."""
    return _load_methods(folder)


@functools.cache  # of a function without defaults: with them, a folder given and the same one left out are two entries
def _load_methods(folder: Path) -> dict[str, MethodSpec]:
    paths = sorted(folder.glob("*/config.yaml"))
    methods = {path.parent.name: _read_method(path) for path in paths}
    for method in methods.values():
        _check_borrowed(method, methods)
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


def _read_method(path: Path) -> MethodSpec:
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


def _check_borrowed(method: MethodSpec, methods: Mapping[str, MethodSpec]) -> None:
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


# ---------------------------------------------------------------- resolution


def _resolve_params(
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


# ---------------------------------------------------------------- places


def stage_folder(runs: str | Path, dataset: str, scale: str, stage: StageSpec, seed: int) -> Path:
    """Where a stage's weights, losses and manifest live; shared by all variants that agree on it."""
    return Path(runs) / dataset / scale / "stages" / stage.folder_name / f"seed{seed}"


def generated_folder(runs: str | Path, dataset: str, scale: str, method: str, variant: str, seed: int) -> Path:
    """Where a variant's meshes and `generate.jsonl` live."""
    return Path(runs) / dataset / scale / "generated" / method / variant / f"seed{seed}"
