"""The registry: params, keys that are shared exactly when they may be, and errors that one sentence says."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from core.errors import UserError
from core.identity import ROOT
from core.yaml_files import read_yaml, validate
from methods.places import generated_folder, stage_folder
from methods.registry import deciding, fitting_variant, load_methods, paper_gpus, resolve
from methods.run import readable_params
from methods.sources import FORESEES, method_sources
from methods.specs import SCALES, parse_setting

BASE = {
    "name": "alpha",
    "label": "Alpha",
    "summary": "a method for these tests",
    "entry": "method:Alpha",
    "kind": "method",
    "stages": {"second": {"reads": ["b"], "needs": ["first"]}, "first": {"reads": ["a"]}},
    "params": {"a": {"x": 1, "y": "text"}, "b": 2, "c": 3},
    "scales": {"smoke": {"a": {"x": 10}}},
    "variants": {
        "full": None,
        "other_b": {"params": {"b": 5}},
        "other_c": {"params": {"c": 5}},
        "other_a": {"params": {"a": {"x": 7}}, "scales": {"smoke": {"a": {"x": 70}}}},
        "short": {"stages": ["first"]},
    },
}
BORROWER = {
    "name": "beta",
    "label": "Beta",
    "summary": "borrows from alpha",
    "entry": "method:Beta",
    "kind": "control",
    "stages": {"first": {"from": "alpha"}, "own": {"reads": ["d"], "needs": ["first"]}},
    "params": {"d": 1},
    "variants": {"full": None},
}


def write(folder: Path, *configs: dict) -> Path:
    for config in configs:
        path = folder / config["name"] / "config.yaml"
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        (path.parent / "method.py").touch()
    return folder


def keys(folder: Path, variant: str, scale: str = "cpu") -> dict[str, str]:
    return {stage.name: stage.key for stage in resolve("alpha", variant, scale, folder).stages}


def test_params_are_base_then_scale_then_variant_then_variant_at_scale(tmp_path):
    folder = write(tmp_path, BASE)
    assert resolve("alpha", "full", "cpu", folder).params["a"] == {"x": 1, "y": "text"}
    assert resolve("alpha", "full", "smoke", folder).params["a"]["x"] == 10
    assert resolve("alpha", "other_a", "cpu", folder).params["a"]["x"] == 7
    assert resolve("alpha", "other_a", "smoke", folder).params["a"] == {"x": 70, "y": "text"}


def test_batches_of_many_gpus_take_as_many_fewer_steps(tmp_path):
    training = {"batch": 8, "steps": 10, "phases": {"broad": 7, "fine": 3}}
    alpha = {
        **BASE,
        "params": {**BASE["params"], "a": {"training": training}, "b": {"training": {"batch": 2, "steps": 5}}},
    }
    alpha |= {"scales": {}, "variants": {"full": None}}
    own = {"name": "beta", "entry": "method:Beta", "params_from": {"alpha": ["a"]}, "params": {"d": 1}}
    beta = {**alpha, **own, "stages": {"own": {"reads": ["a", "d"]}}}
    found = {}
    for gpus in (None, 1, 4):
        params = alpha["params"] | ({} if gpus is None else {"paper_gpus": gpus})
        (tmp_path / str(gpus)).mkdir()
        folder = write(tmp_path / str(gpus), {**alpha, "params": params}, beta)
        found[gpus] = [resolve(name, "full", "paper", folder) for name in ("alpha", "beta")]
        assert {paper_gpus(name, "full", "paper", folder) for name in ("alpha", "beta")} == {gpus or 1}
    assert [[s.key for s in p.stages] for p in found[1]] == [[s.key for s in p.stages] for p in found[None]]
    for plan in found[4]:
        assert plan.params["a"]["training"] == {"batch": 32, "steps": 3, "phases": {"broad": 2, "fine": 1}}
        assert "paper_gpus" not in plan.params
    assert found[4][0].params["b"]["training"] == {"batch": 8, "steps": 2}
    for scale in ("smoke", "cpu", "gpu"):  # whose batches are not the paper's
        plan = resolve("alpha", "full", scale, folder)
        assert plan.params["b"]["training"] == {"batch": 2, "steps": 5} and "paper_gpus" not in plan.params
    assert not {s.key for p in found[4] for s in p.stages} & {s.key for p in found[1] for s in p.stages}
    (tmp_path / "none").mkdir()
    folder = write(tmp_path / "none", {**alpha, "params": alpha["params"] | {"paper_gpus": 0}})
    with pytest.raises(UserError, match="paper_gpus is 0: it must be a whole number of at least 1"):
        resolve("alpha", "full", "paper", folder)


def test_stages_come_in_the_order_of_training(tmp_path):
    folder = write(tmp_path, BASE)
    assert [stage.name for stage in resolve("alpha", "full", "cpu", folder).stages] == ["first", "second"]
    assert [stage.name for stage in resolve("alpha", "short", "cpu", folder).stages] == ["first"]
    assert resolve("alpha", "full", "cpu", folder).stage("second").needs == ("first",)


def test_variants_share_a_stage_exactly_when_they_agree_on_what_it_reads(tmp_path):
    folder = write(tmp_path, BASE)
    full = keys(folder, "full")
    assert keys(folder, "other_c") == full  # no stage reads c
    assert keys(folder, "short")["first"] == full["first"]
    other_b = keys(folder, "other_b")
    assert other_b["first"] == full["first"] and other_b["second"] != full["second"]
    other_a = keys(folder, "other_a")  # a change upstream changes everything after it
    assert other_a["first"] != full["first"] and other_a["second"] != full["second"]
    assert keys(folder, "full", "smoke")["first"] != full["first"]


def conditional(**stage) -> dict:
    second = {"reads": ["b", "d"], "needs_if": {"first": "d.on"}, **stage}
    other_d = {"params": {"d": {"on": True}}}
    stages, params = {**BASE["stages"], "second": second}, {**BASE["params"], "d": {"on": False}}
    return {**BASE, "stages": stages, "params": params, "variants": {**BASE["variants"], "other_d": other_d}}


def test_a_stage_needs_another_only_where_the_param_that_it_names_is_true(tmp_path):
    folder = write(tmp_path, conditional())
    assert resolve("alpha", "full", "cpu", folder).stage("second").needs == ()
    assert resolve("alpha", "other_d", "cpu", folder).stage("second").needs == ("first",)
    # A change upstream changes the one that begins there, and only that.
    (tmp_path / "changed").mkdir()
    changed = write(tmp_path / "changed", {**conditional(), "scales": {"cpu": {"a": {"x": 9}}}})
    for variant, same in (("full", True), ("other_d", False)):
        assert (keys(changed, variant)["second"] == keys(folder, variant)["second"]) is same


@pytest.mark.parametrize("stage", [{"reads": ["b"]}, {"reads": ["b", "d.off"]}, {"needs_if": {"first": "d.off"}}])
def test_a_condition_on_what_a_stage_does_not_read_is_refused(tmp_path, stage):
    with pytest.raises(UserError, match=r"methods/alpha/config.yaml: stage second .*d\.o"):
        load_methods(write(tmp_path, conditional(**stage)))
        resolve("alpha", "full", "cpu", tmp_path)


def test_a_borrowed_stage_is_the_owners_own(tmp_path):
    folder = write(tmp_path, BASE, BORROWER)
    borrowed = resolve("beta", "full", "smoke", folder).stage("first")
    owned = resolve("alpha", "full", "smoke", folder).stage("first")
    assert borrowed == owned and borrowed.owner == "alpha"
    assert stage_folder("runs", "d", "smoke", borrowed, 3) == Path(f"runs/d/smoke/stages/alpha.first-{owned.key}/seed3")
    own = resolve("beta", "full", "smoke", folder).stage("own")
    assert own.owner == "beta" and own.needs == ("first",)
    assert {"methods/alpha/method.py", "methods/beta/method.py"} <= set(method_sources("beta", folder))
    assert "methods/beta/method.py" not in method_sources("alpha", folder)


def test_a_stage_key_leads_back_to_a_variant_that_trains_it(tmp_path):
    folder = write(tmp_path, BASE)
    stage = resolve("alpha", "other_b", "cpu", folder).stage("second")
    assert fitting_variant(stage, "cpu", folder) == "other_b"
    assert fitting_variant(resolve("alpha", "other_c", "cpu", folder).stage("second"), "cpu", folder) == "full"


def test_a_value_that_the_methods_own_schema_forbids_is_found_on_reading(tmp_path):
    folder = write(tmp_path, BASE)
    schema = {"properties": {"a": {"properties": {"x": {"maximum": 50}}}}}
    (folder / "alpha" / "params.schema.yaml").write_text(yaml.safe_dump(schema))
    with pytest.raises(
        UserError, match=r"params of other_a at scale smoke: a\.x: 70 is greater than the maximum of 50"
    ):
        load_methods(folder)


@pytest.mark.parametrize(
    "trail, value", [("sampling.lr.sampler", "ddmp"), ("optimiser.name", "adam"), ("vae.levels", [])]
)
def test_mar3d_says_which_values_its_params_may_take(trail, value):
    plan = resolve("mar3d", "full", "cpu")
    params = copy.deepcopy(dict(plan.params))
    validate(params, plan.method.folder / "params.schema.yaml", "params")  # as it stands, it passes
    place = params
    for key in trail.split(".")[:-1]:
        place = place[key]
    place[trail.split(".")[-1]] = value
    with pytest.raises(UserError, match=trail.replace(".", r"\.")):
        validate(params, plan.method.folder / "params.schema.yaml", "params")


def test_a_setting_is_a_method_and_a_variant():
    assert parse_setting("mar3d/full") == ("mar3d", "full")
    assert parse_setting(resolve("mar3d", "no_mar_hr", "cpu").setting) == ("mar3d", "no_mar_hr")


@pytest.mark.parametrize("name", ["mar3d", "mar3d/", "/full", ""])
def test_what_is_no_setting_is_one_sentence(name):
    with pytest.raises(UserError, match="is not method/variant, for example mar3d/full"):
        parse_setting(name)


def test_generated_folder():
    assert generated_folder("runs", "d", "cpu", "m", "v", 1) == Path("runs/d/cpu/generated/m/v/seed1")


BAD = [
    ({"parms": {}}, "there is no key 'parms'", "did you mean 'params'?"),
    ({"variants": {"full": {"parms": {}}}}, "variants.full: there is no key 'parms'", "did you mean 'params'?"),
    (
        {"variants": {"full": {"params": {"a": {"z": 1}}}}},
        "variants.full.params: there is no param 'a.z'",
        "known: a.x, a.y",
    ),
    ({"scales": {"cpu": {"bb": 1}}}, "scales.cpu: there is no param 'bb'", "did you mean 'b'?"),
    ({"scales": {"smok": {}}}, "scales: there is no key 'smok'", "did you mean 'smoke'?"),
    ({"variants": {"full": {"params": {"b": "many"}}}}, "b is a number in the base params", "'many'"),
    ({"variants": {"full": {"params": {"a": 3}}}}, "a is a mapping in the base params", "3"),
    ({"variants": {"full": {"params": {"b": True}}}}, "b is a number in the base params", "True"),
    ({"variants": {"full": {"params": {"b": "1e-4"}}}}, "variants.full.params.b is text to YAML", "write 1.0e-4"),
    ({"variants": {"full": {"stages": ["second"]}}}, "has 'second' but not 'first'", "add it"),
    ({"variants": {"full": {"stages": ["third"]}}}, "there is no stage 'third'", "known: first, second"),
    ({"variants": {}}, "variants", "non-empty"),
    ({"stages": {"s": {"reads": ["q"]}}}, "stage s reads what is not there", "known: a, b, c"),
    (
        {"stages": {"s": {"reads": ["a.z"]}}, "variants": {"full": {}}},
        "stage s reads what is not there",
        "known: a.x, a.y",
    ),
    (
        {"stages": {"s": {"reads": ["b.x"]}}, "variants": {"full": {}}},
        "stage s reads 'b.x', but b is no section of params",
        "",
    ),
    ({"stages": {"s": {"reads": ["a.x", "a"]}}}, "stage s reads 'a' and 'a.x' of it; take one out", ""),
    ({"stages": {"s": {"reads": [], "needs": ["t"]}}}, "stage s needs what is not there", "known: s"),
    ({"stages": {"s": {"reads": [], "needs": ["t"]}, "t": {"reads": [], "needs": ["s"]}}}, "circle", "s, t"),
    ({"stages": {"s": {"needs": []}}}, "stages.s lacks the key 'reads'", ""),
    (
        {"stages": {"s": {"from": "nobody"}}, "variants": {"full": {}}},
        "stages.s.from: there is no method 'nobody'",
        "alpha",
    ),
    ({"reads_ground_truth": True}, "only a control may read the ground truth", ""),
    ({"kind": "magic"}, "kind: 'magic'", "control"),
    ({"name": "gamma"}, "the folder is 'alpha'", ""),
    (
        {"params": {}, "stages": {}, "scales": {}, "variants": {"full": {"params": {"b": 1}}}},
        "no param 'b'",
        "known: none",
    ),
]


@pytest.mark.parametrize(("change", "what", "remedy"), BAD, ids=[bad[1][:40] for bad in BAD])
def test_a_bad_config_is_one_sentence(tmp_path, change, what, remedy):
    path = tmp_path / "alpha" / "config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump({**BASE, **change}, sort_keys=False))
    with pytest.raises(UserError) as raised:
        load_methods(tmp_path)
    message = str(raised.value)
    assert "alpha/config.yaml" in message and what in message and remedy in message and "\n" not in message


def test_borrowing_needs_what_the_owner_needs(tmp_path):
    config = {**BORROWER, "stages": {"second": {"from": "alpha"}}, "params": {}}
    with pytest.raises(UserError, match="needs 'first'; borrow that as well"):
        load_methods(write(tmp_path, BASE, config))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("alpa", "full", "cpu"), "there is no method 'alpa' (known: alpha); did you mean 'alpha'?"),
        (("alpha", "ful", "cpu"), "there is no variant of alpha 'ful'"),
        (("alpha", "full", "cpus"), "there is no scale 'cpus' (known: smoke, cpu, gpu, paper); did you mean 'cpu'?"),
    ],
)
def test_an_unknown_name_is_one_sentence(tmp_path, names, message):
    with pytest.raises(UserError) as raised:
        resolve(*names, write(tmp_path, BASE))
    assert message in str(raised.value)


def test_every_method_resolves_at_every_scale():
    for name, method in load_methods().items():
        for variant in method.variants:
            for scale in SCALES:
                plan = resolve(name, variant, scale)
                names = [stage.name for stage in plan.stages]
                for place, stage in enumerate(plan.stages):
                    assert set(stage.needs) <= set(names[:place])
        assert (method.folder / f"{method.entry.split(':')[0]}.py").exists()


def test_the_registry_is_fast_and_torch_free():
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "import methods.registry\n"
        "took = time.perf_counter() - start\n"
        "names = methods.registry.load_methods()\n"
        "heavy = {'torch', 'numpy', 'scipy', 'snakemake', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert took < 1, took\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


TAKER = {
    "name": "gamma",
    "label": "Gamma",
    "summary": "takes params from alpha",
    "entry": "method:Gamma",
    "kind": "method",
    "params_from": {"alpha": ["a"]},
    "stages": {"own": {"reads": ["a", "d"]}},
    "params": {"d": 1},
    "variants": {"full": None, "other": {"params": {"a": {"x": 5}}}},
}


def test_params_taken_from_another_method_are_its_own_at_every_scale(tmp_path):
    folder = write(tmp_path, BASE, TAKER)
    for scale in SCALES:
        theirs = resolve("alpha", "full", scale, folder).params["a"]
        assert resolve("gamma", "full", scale, folder).params == {"d": 1, "a": theirs}
        assert resolve("gamma", "other", scale, folder).params["a"] == {**theirs, "x": 5}
    assert {"methods/alpha/method.py", "methods/gamma/method.py"} <= set(method_sources("gamma", folder))
    assert resolve("gamma", "full", "smoke", folder).stage("own").owner == "gamma"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params_from": {"alhpa": ["a"]}}, "there is no method 'alhpa'"),
        ({"params_from": {"alpha": ["a", "z"]}}, "params_from.alpha: there is no param 'z'"),
        ({"params": {"d": 1, "a": {}}}, "'a' stands in params as well; take one out"),
        ({"variants": {"full": {"params": {"a": {"q": 1}}}}}, "there is no param 'a.q'"),
    ],
)
def test_params_from_must_name_what_is_there(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        load_methods(write(tmp_path, BASE, {**TAKER, **change}))


def test_how_the_work_is_done_changes_no_key(tmp_path):
    params = {**BASE["params"], "hardware": {"workers": 0}}
    other = {"full": None, "wide": {"params": {"hardware": {"workers": 9}}}}
    folder = write(tmp_path, {**BASE, "params": params, "variants": other})
    assert keys(folder, "wide") == keys(folder, "full")
    plain, wide = (resolve("alpha", name, "cpu", folder).params for name in other)
    assert plain != wide and deciding(plain) == deciding(wide) == BASE["params"]


def test_a_stage_may_not_count_the_hardware(tmp_path):
    stages = {"s": {"reads": ["hardware"]}}
    folder = write(
        tmp_path, {**BASE, "params": {"hardware": {}}, "stages": stages, "scales": {}, "variants": {"full": None}}
    )
    with pytest.raises(UserError, match="reads 'hardware', which every stage may"):
        load_methods(folder)


def test_a_stage_may_read_one_key_of_a_section(tmp_path):
    precise = BASE | {"stages": {"only": {"reads": ["a.x", "b"]}}}
    precise["variants"] = BASE["variants"] | {"other_y": {"params": {"a": {"y": "other"}}}, "short": None}
    folder = write(tmp_path, precise)
    stage = {name: resolve("alpha", name, "gpu", folder).stage("only") for name in precise["variants"]}
    assert stage["full"].params == {"a": {"x": 1}, "b": 2}
    assert stage["other_y"].key == stage["full"].key
    assert len({stage[name].key for name in ("full", "other_a", "other_b")}) == 3


def test_what_only_foresees_retrains_nothing():
    sources = set(method_sources("dit"))
    assert {"methods/dit/method.py", "methods/mar3d/mar.py", "methods/layers", "methods/training"} <= sources
    foreseeing = {f"methods/dit/{path.name}" for path in (ROOT / "methods/dit").glob(f"{FORESEES}*.py")}
    assert foreseeing and not foreseeing & sources


@pytest.mark.parametrize("name", [name for name, spec in load_methods().items() if spec.stages])
def test_no_result_rests_on_what_only_foresees(name):
    """Such a module is imported whole, and used by the hooks of the planning alone: the code hash leaves it out."""
    for path in (ROOT / "methods" / name).rglob("*.py"):
        if path.name.startswith(FORESEES):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [module for module in imported if module.split(".")[-1].startswith(FORESEES)], path
        hooks = [n for n in ast.walk(tree) if getattr(n, "name", "") in ("step_of", "object_flops", "kept_bytes")]
        allowed = {id(node) for hook in hooks for node in ast.walk(hook)}
        used = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id.startswith(FORESEES)]
        assert all(id(node) in allowed for node in used), path


@pytest.mark.parametrize(("key", "value", "retrained"), [("decoder_depth", 7, False), ("dropout", 0.5, True)])
def test_what_mar_alone_has_retrains_no_dit(tmp_path, key, value, retrained):
    configs = {name: read_yaml(ROOT / f"methods/{name}/config.yaml") for name in ("mar3d", "dit")}
    configs["mar3d"]["scales"]["cpu"]["mar"][key] = value
    folder = write(tmp_path, *configs.values())
    for method, changed in (("dit", retrained), ("mar3d", True)):
        variant = load_methods()[method].first_variant
        stages = zip(
            resolve(method, variant, "cpu").stages, resolve(method, variant, "cpu", folder).stages, strict=True
        )
        same = {old.name: old.key == new.key for old, new in stages}
        assert same.pop("vae")
        assert set(same.values()) == {not changed}, method


def test_a_fit_of_a_dit_sees_of_mar_what_its_key_holds():
    plan = resolve("dit", "cascade", "cpu")
    seen = readable_params(plan, "dit_hr")["mar"]
    assert seen == {key: plan.params["mar"][key] for key in seen}
    assert set(seen) == {"mlp_ratio", "dropout", "condition_drop", "prediction", "rotated_share"}
