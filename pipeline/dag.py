"""What the rules of the DAG name: paths, inputs, arguments, and the identity of the code behind each command.

Everything comes from the configuration and the methods' YAML; nothing heavy is imported, since every job
parses the workflow again. Methods that take `wildcards` are input or parameter functions of a rule.

    runs/{dataset}/{scale}/prepared-{key}/{split}/{shard}.safetensors      key: objects, parameters, shard size
    runs/{dataset}/{scale}/stages/{owner}.{stage}-{key}/seed{seed}/manifest.json
    runs/{dataset}/{scale}/generated/{method}/{variant}/seed{seed}/generate.jsonl
    runs/{dataset}/{scale}/rows/{protocol}/{method}/{variant}/seed{seed}.parquet
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.identity import ROOT, params_key, source_hash
from core.threads import FIT_THREADS
from data.sources import DOWNLOADED, SPLITS, ObjectSpec, list_objects
from evaluation import protocol
from methods import places, registry, specs
from methods.external import folder as external
from methods.layers.pretrained import wanted
from methods.sources import method_sources
from pipeline import cards
from pipeline.artefacts import ARTEFACTS, protocol_of

RUNS = "runs"
NOT_PREPARE = ("preview", "quarantine", "images", "names", "catalogue", "choose")
USUAL = {"backend": "auto", "sampler": "cpu"}
"""Of `evaluation:`, what the commands do when they are not told otherwise."""
PROCESSES, PROCESSES_ON_A_GPU = 2, 8
"""Of a scoring, one thread each."""
READER = ("data/store.py", "data/views.py", "data/quantise.py")


def _modules(folder: str, *but: str) -> list[str]:
    """The Python files of a room, without its front door and those named."""
    paths = sorted((ROOT / folder).glob("*.py"))
    return [f"{folder}/{path.name}" for path in paths if path.stem not in ("__init__", "__main__", *but)]


def _is_file(path: Path) -> bool:
    """Whether it is, also for a name that no file can have and a folder that may not be entered: then it is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


class Dag:
    """The names of one configuration (from `pipeline.config.load`). Raises UserError where its data are not there."""

    # The sources that decide a result. Front doors and what only looks at results may change without a new run.
    PREPARE_CODE = ("core/randomness.py", *_modules("data", *NOT_PREPARE), "data/sources")
    SCORE_CODE = ("core/randomness.py", *READER, *_modules("evaluation", "statistics", "floor", "backends_command"))
    REPORT_CODE = ("core/randomness.py", "evaluation/statistics.py", "evaluation/protocol.py", "reports")

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.dataset, self.scale = config["dataset"], config["scale"]
        self.source = config["datasets"][self.dataset]
        self.trained_on = self.source.get("trained_on") or self.dataset
        splits = SPLITS if self.trained_on == self.dataset else ("test",)  # of a test set, whatever else it lists
        self.objects = [spec for spec in list_objects(self.source) if spec.split in splits]
        self.objects_of: dict[str, list[ObjectSpec]] = {split: [] for split in SPLITS}
        for spec in self.objects:
            self.objects_of[spec.split].append(spec)
        for split in splits:
            if not self.objects_of[split]:
                raise UserError(f"the dataset {self.dataset!r} has no object in its {split} split; give it some")
        if self.trained_on != self.dataset:
            self._check_not_taught()
        told = [[s.object, s.split, s.path, s.category, s.licence, s.attribution] for s in self.objects]
        key = {"objects": told, "prepare": config["prepare"]}
        key |= {"shard_size": config["shard_size"], "max_faces": self.source.get("max_faces")}
        key |= {name: self.source[name] for name in ("up", "licences") if self.source.get(name)}
        key |= {"phases": phases} if (phases := [s.phases for s in self.objects if s.phases]) else {}
        self.root = f"{RUNS}/{self.dataset}/{self.scale}"
        self.logs = f"{self.root}/logs"
        self.prepared = f"{self.root}/prepared-{params_key(key)}"

    def _check_not_taught(self) -> None:
        """A test object must not be one that was trained on. Raises UserError.

        Stages may have come from where the training lists are; then a missing list is a warning.
        """
        source = self.config["datasets"][self.trained_on]
        missing = missing_lists(source)
        if missing and any(Path(RUNS, self.trained_on, self.scale, "stages").glob("*/seed*/manifest.json")):
            print(
                f"warning: there is no object list {missing[0]}, so nothing says whether test objects of {self.dataset}"
                f" are in the training data of {self.trained_on}",
                file=sys.stderr,
            )
            return
        home = list_objects(source)
        taught = {spec.object for spec in home if spec.split != "test"}
        both = [spec.object for spec in self.objects if spec.split == "test" and spec.object in taught]
        if both:
            raise UserError(
                f"{len(both)} test objects of {self.dataset} are in the training data of {self.trained_on}, for example"
                f" {both[0]}: leave them out there (a folder's `filter`) or take another list"
            )

    def description(self, name: str) -> str:
        """What an artefact is of, as its columns say."""
        return f"dataset {self.dataset}, scale {self.scale}, protocol {protocol_of(self.config, name)}"

    def wildcards(self) -> dict[str, str]:
        """Constraints: a name that is not known matches no rule, so a misspelt target fails at once."""
        methods = registry.load_methods()
        names = {
            "split": SPLITS,
            "method": methods,
            "variant": {variant for method in methods.values() for variant in method.variants},
            "stage": self.stages,
            "protocol": protocol.names(),
        }
        constraints = {name: "|".join(map(re.escape, sorted(values))) or "none" for name, values in names.items()}
        return {**constraints, "seed": r"0|[1-9]\d*", "shard": r"\d{5}"}

    # ------------------------------------------------------------ data

    def _specs(self, wildcards: Any) -> list[ObjectSpec]:
        first, size = int(wildcards.shard) * self.config["shard_size"], self.config["shard_size"]
        return self.objects_of[wildcards.split][first : first + size]  # as data.prepare.shard_specs, for many shards

    def acquired(self, wildcards: Any) -> list[str]:
        """What says that the objects of a shard are here, for sources that are downloaded."""
        if self.source["source"] not in DOWNLOADED:
            return []
        return [f"{self.prepared}/{wildcards.split}/{wildcards.shard}.acquired.csv"]

    def acquire_job(self, wildcards: Any) -> str:
        """The JSON that `python -m data acquire --job` takes."""
        source = {key: value for key, value in self.source.items() if key != "trained_on"}
        job = {"source": source, "split": wildcards.split, "shard": int(wildcards.shard)}
        job |= {"shard_size": self.config["shard_size"], "out": self.acquired(wildcards)[0]}
        return json.dumps(job, sort_keys=True)

    def raw_meshes(self, wildcards: Any) -> list[str]:
        """The mesh files of a shard, those that exist: what is missing or outside the folder is for the quarantine."""
        if self.source["source"] in DOWNLOADED:  # not here yet, and too many to look at; `acquired` says when they are
            return []
        root = Path(self.source.get("root", "."))
        paths = [root / spec.path for spec in self._specs(wildcards) if spec.path]
        return [str(path) for path in paths if _is_file(path) and path.resolve().is_relative_to(root)]

    def prepare_job(self, wildcards: Any) -> str:
        """The JSON that `python -m data prepare --job` takes."""
        source = {key: value for key, value in self.source.items() if key not in ("url", "trained_on")}
        job = {"dataset": self.dataset, "source": source, "params": self.config["prepare"]}
        job |= {"split": wildcards.split, "shard": int(wildcards.shard), "shard_size": self.config["shard_size"]}
        return json.dumps(job | {"out": self.prepared}, sort_keys=True)

    def _shards(self, splits: Iterable[str]) -> list[str]:
        counts = {split: -(-len(self.objects_of[split]) // self.config["shard_size"]) for split in splits}
        return [f"{self.prepared}/{split}/{i:05d}.safetensors" for split, count in counts.items() for i in range(count)]

    def shards(self, wildcards: Any) -> list[str]:
        """All shards."""
        return self._shards(SPLITS)

    def test_shards(self, wildcards: Any) -> list[str]:
        """The shards of the test split."""
        return self._shards(["test"])

    # ------------------------------------------------------------ methods

    @cached_property
    def stages(self) -> dict[str, specs.StageSpec]:
        """Every stage of every method and variant at this scale, by the name of its folder."""
        plans = [registry.resolve(m.name, v, self.scale) for m in registry.load_methods().values() for v in m.variants]
        return {stage.folder_name: stage for plan in plans for stage in plan.stages}

    def _arguments(self, method: str, variant: str) -> dict[str, Any]:
        run = {"method": method, "variant": variant, "scale": self.scale, "dataset": self.dataset}
        return run | {"prepared": self.prepared}

    def _manifest(self, stage: specs.StageSpec, seed: str) -> str:
        borrowed = self.trained_on != self.dataset and registry.get_method(stage.owner).kind != specs.EXTERNAL
        dataset = self.trained_on if borrowed else self.dataset
        path = places.stage_folder(RUNS, dataset, self.scale, stage, int(seed)) / "manifest.json"
        if borrowed and not path.is_file():
            raise UserError(
                f"{self.dataset} is a test set of what is trained on {dataset}: run dataset={dataset} first"
            )
        return str(path)

    def _owners_plan(self, stage: specs.StageSpec) -> specs.Plan:
        return registry.resolve(stage.owner, registry.fitting_variant(stage, self.scale), self.scale)

    def upstream(self, wildcards: Any) -> list[str]:
        """Manifests of the stages that a stage needs."""
        stage = self.stages[wildcards.stage]
        return [self._manifest(self._owners_plan(stage).stage(need), wildcards.seed) for need in stage.needs]

    def fit_arguments(self, wildcards: Any) -> str:
        """The command line of a fit, without seed and threads."""
        stage = self.stages[wildcards.stage]
        variant = registry.fitting_variant(stage, self.scale)
        return _options(self._arguments(stage.owner, variant) | {"stage": stage.name, "runs": RUNS})

    def fit_priority(self, wildcards: Any) -> int:
        """Higher for more training steps: long trainings first, or one of them is left to run alone at the end."""
        sections = self.stages[wildcards.stage].params.values()
        trainings = [s["training"] for s in sections if isinstance(s, Mapping) and "training" in s]
        return 10 + max((training["steps"] for training in trainings), default=0)

    def gpus_of_fit(self, wildcards: Any) -> int:
        """GPUs that a fit asks for."""
        return _gpus(self.stages[wildcards.stage].owner)

    def threads_of_fit(self, wildcards: Any) -> int:
        """CPU threads of a fit: one, or beside a card its part of this machine's cores, up to FIT_THREADS."""
        if not self.gpus_of_fit(wildcards):
            return 1
        return max(1, min(FIT_THREADS, len(os.sched_getaffinity(0)) // max(1, len(cards.cards()))))

    def gpus_of_generate(self, wildcards: Any) -> int:
        """GPUs that a generation asks for."""
        return _gpus(wildcards.method)

    def fit_code(self, wildcards: Any) -> str:
        """Hash of the sources that decide a stage's weights."""
        return source_hash(*method_sources(self.stages[wildcards.stage].owner))

    def stages_of(self, wildcards: Any) -> list[str]:
        """Manifests of all stages of a method's variant."""
        plan = registry.resolve(wildcards.method, wildcards.variant, self.scale)
        return [self._manifest(stage, wildcards.seed) for stage in plan.stages]

    def generate_arguments(self, wildcards: Any) -> str:
        """The command line of a generation, without seed and threads."""
        arguments = self._arguments(wildcards.method, wildcards.variant)
        arguments |= {"trained-on": self.trained_on} if self.trained_on != self.dataset else {}
        return _options(arguments | {"runs": RUNS, "views": self.config["evaluation"]["views"]})

    def generate_params(self, wildcards: Any) -> str:
        """Key of the resolved params: those that no stage reads, such as the number of sampling steps, count here."""
        plan = registry.resolve(wildcards.method, wildcards.variant, self.scale)
        return params_key(registry.deciding(plan.params))

    def generate_code(self, wildcards: Any) -> str:
        """Hash of the sources that decide a variant's meshes."""
        return source_hash("methods/generate.py", "methods/meshes.py", *method_sources(wildcards.method))

    def outside_meshes(self, wildcards: Any) -> list[str]:
        """The files that another system made: a new or changed one generates again. None for other methods."""
        plan = registry.resolve(wildcards.method, wildcards.variant, self.scale)
        if plan.method.kind != specs.EXTERNAL:
            return []
        return [str(path) for path in external.mesh_files(external.root_of(plan.params, self.dataset))]

    def _weights(self, plan: specs.Plan) -> list[str]:
        return [f"{self.root}/weights.json"] if wanted(plan.params) else []

    def weights_of_fit(self, wildcards: Any) -> list[str]:
        """The record that its pretrained models are there, for every stage of a method: none starts in vain."""
        return self._weights(self._owners_plan(self.stages[wildcards.stage]))

    def weights_of_generate(self, wildcards: Any) -> list[str]:
        """The same for a generation."""
        return self._weights(registry.resolve(wildcards.method, wildcards.variant, self.scale))

    # ------------------------------------------------------------ evaluation and reports

    def gpus_of_score(self, wildcards: Any) -> int:
        """GPUs that a scoring asks for: one where it is shown and a backend that uses it is named; else it sees none.

        `auto` asks for none: scorings then run beside each other and beside the trainings, which need the card more.
        """
        return self._gpus_of_backend("pytorch3d", "kaolin")

    def threads_of_score(self, wildcards: Any) -> int:
        """Processes of a scoring: where it holds a card, they share it, and no other scoring can start."""
        return PROCESSES_ON_A_GPU if self.gpus_of_score(wildcards) else PROCESSES

    def gpus_of_report(self, name: str) -> int:
        """GPUs that a table or a figure asks for, by the same rule: pytorch3d draws meshes, kaolin does not."""
        return self._gpus_of_backend("pytorch3d") if "backend" in ARTEFACTS[name].options else 0

    def _gpus_of_backend(self, *able: str) -> int:
        chosen = self.config["evaluation"].get("backend", USUAL["backend"])
        return int(cards.shows_any() and chosen in able and importlib.util.find_spec(chosen) is not None)

    def score_arguments(self, wildcards: Any) -> str:
        """The command line of a scoring, without seed, threads and output."""
        method, variant, seed = wildcards.method, wildcards.variant, int(wildcards.seed)
        generated = places.generated_folder(RUNS, self.dataset, self.scale, method, variant, seed)
        arguments = self._arguments(method, variant)
        chosen = {key: value for key in USUAL if (value := self._unusual(key))}
        return _options(arguments | {"generated": generated, "protocol": wildcards.protocol} | chosen)

    def _unusual(self, key: str) -> str | None:
        """A choice of `evaluation:` where it is not the default, so that those who leave it out share their results."""
        value = self.config["evaluation"].get(key, USUAL[key])
        return None if value == USUAL[key] else value

    def score_code(self, wildcards: Any) -> str:
        """Hash of the evaluation's sources and of the protocol."""
        return source_hash(*self.SCORE_CODE, f"evaluation/protocols/{wildcards.protocol}.yaml")

    def settings_of(self, name: str) -> list[str]:
        """The settings, then the controls (method/variant) whose rows an artefact needs, each once."""
        declared = self.config[name]
        settings, controls = list(declared.get("settings", ())), list(declared.get("controls", ()))
        for other in declared.get("of", ()):
            settings += self.config[other].get("settings", ())
            controls += self.config[other].get("controls", ())
        return list(dict.fromkeys(settings + controls))

    def rows(self, name: str) -> list[str]:
        """The rows that an artefact needs, of every seed; what has no randomness is run with the first seed only.

        Those of the artefacts that it is made `of` are under their protocol.
        """
        paths: list[str] = []
        for part in (name, *self.config[name].get("of", ())):
            declared, folder = self.config[part], f"{self.root}/rows/{protocol_of(self.config, part)}"
            for run in (*declared.get("settings", ()), *declared.get("controls", ())):
                differs = registry.get_method(specs.parse_setting(run)[0]).differs_by_seed
                seeds = self.config["seeds"] if differs else self.config["seeds"][:1]
                paths += [f"{folder}/{run}/seed{seed}.parquet" for seed in seeds]
        return list(dict.fromkeys(paths)) + [str(ROOT / path) for path in self.config[name].get("rows", ())]

    def report_arguments(self, name: str) -> str:
        """The command line of an artefact, without rows and output."""
        declared, text = self.config[name], f"--protocol {protocol_of(self.config, name)}"
        for key in ("settings", "controls"):
            text += f" --{key} {' '.join(declared[key])}" if declared.get(key) else ""
        values = {"held_out": self.source.get("held_out_family"), "prepared": self.prepared, "root": self.root}
        values["backend"] = self._unusual("backend")
        chosen = {key.replace("_", "-"): values[key] for key in ARTEFACTS[name].options if values[key]}
        return f"{text} {_options(chosen)}".rstrip()

    def report_labels(self, name: str) -> str:
        """Key of what the methods' configs say of each row (label, kind, published): part of the artefact."""
        about = []
        for method, variant in map(specs.parse_setting, self.settings_of(name)):
            spec = registry.get_method(method)
            chosen = spec.variants[variant]
            about.append([spec.label, spec.kind, spec.reads_ground_truth, chosen.label, chosen.published])
        return params_key(about)


def _gpus(method: str) -> int:
    """One if this machine shows any GPU and the method's code can use one, else none."""
    return int(cards.shows_any() and registry.get_method(method).resources.get("gpu", 1))


def missing_lists(source: Mapping[str, Any]) -> list[str]:
    """The object lists of a dataset that are not here."""
    paths = [one["path"] for one in source.get("lists", ())]
    return [path for path in paths if not (ROOT / Path(path).expanduser()).is_file()]


def _options(values: Mapping[str, Any]) -> str:
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in values.items())
