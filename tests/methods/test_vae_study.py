"""The VAE study: token counts relative to the scale's, stages shared within a kind, sizes that are mar3d's own."""

from __future__ import annotations

import pytest

from methods.mar3d.pyramid_vae import build_vae
from methods.mar3d.vae_training import pick
from methods.registry import fitting_variant, load_methods, resolve
from methods.sources import method_sources
from methods.specs import SCALES
from methods.vae_study.method import VaeStudy
from methods.vae_study.tokens import KINDS, token_counts

COUNTS = ("quarter_lr", "lr", "half_hr", "hr", "twice_hr")


@pytest.mark.parametrize("scale", SCALES)
def test_counts_go_from_a_quarter_of_lr_to_twice_hr(scale):
    tokens = resolve("mar3d", "full", scale).params["latent"]["tokens"]
    counts = token_counts(resolve("vae_study", "pyramid_hr", scale).params)
    assert tuple(counts) == COUNTS
    assert (counts["lr"], counts["hr"]) == (tokens["lr"], tokens["hr"])
    assert (counts["quarter_lr"], counts["twice_hr"]) == (tokens["lr"] // 4, 2 * tokens["hr"])
    assert sorted(counts.values()) == list(counts.values())


@pytest.mark.parametrize("scale", SCALES)
def test_a_kind_is_one_stage_and_kinds_differ_in_levels_alone(scale):
    plans = {(k, c): resolve("vae_study", f"{k}_{c}", scale) for k in KINDS for c in COUNTS}
    stages = {name: plan.stage("vae") for name, plan in plans.items()}
    assert len({stage.key for stage in stages.values()}) == 3
    assert all(stages[kind, count] == stages[kind, "hr"] for kind, count in plans)
    assert {plan.params["reconstruction"]["bank"] for plan in plans.values()} == set(COUNTS)
    mar3d = resolve("mar3d", "full", scale).params["vae"]
    levels = {kind: plans[kind, "hr"].params["vae"]["levels"] for kind in KINDS}
    assert levels == {"pyramid": mar3d["levels"], "single": [1], "triple": [1, 1, 1]}
    for kind in KINDS:
        vae = plans[kind, "hr"].params["vae"]
        same = {key for key in vae if vae[key] == mar3d[key]}
        assert set(vae) - same <= {"levels", "training", "anchored"}  # these two at smoke
        assert fitting_variant(stages[kind, "lr"], scale).startswith(kind)


def test_sizes_follow_mar3d_and_so_does_the_code():
    study, mar3d = (resolve(name, variant, "cpu") for name, variant in (("vae_study", "triple_hr"), ("mar3d", "full")))
    assert study.params["optimiser"] == mar3d.params["optimiser"]
    assert study.params["extraction"] == mar3d.params["extraction"]
    assert "methods/mar3d/pyramid_vae.py" in method_sources("vae_study")
    assert load_methods()["vae_study"].stages["vae"].borrowed_from is None


def test_three_levels_of_the_same_points_have_the_parameters_of_the_pyramid():
    sizes = {}
    for kind in KINDS:
        params = resolve("vae_study", f"{kind}_hr", "smoke").params
        model = build_vae(params["vae"], {**params["latent"], "tokens": token_counts(params)})
        sizes[kind] = sum(parameter.numel() for parameter in model.parameters())
        assert sorted(len(query) for query in model.queries.values()) == [1, 4, 8, 16, 32]
    assert sizes["single"] < sizes["pyramid"] == sizes["triple"]


def test_a_bank_is_drawn_by_its_share():
    assert [pick({"lr": 0.3, "hr": 0.7}, at) for at in (0.0, 0.299, 0.3, 0.999)] == ["lr", "lr", "hr", "hr"]
    shares = dict.fromkeys(COUNTS, 1 / 5)
    assert [pick(shares, (k + 0.5) / 5) for k in range(5)] == list(COUNTS)
    assert pick(dict.fromkeys("abc", 0.1), 0.99) == "c"


def test_a_bank_that_was_not_trained_is_refused():
    params = dict(resolve("vae_study", "pyramid_hr_alone", "smoke").params)
    with pytest.raises(ValueError, match=r"'lr', which study.trained does not list"):
        VaeStudy({**params, "reconstruction": {"bank": "lr"}}).load({}, "cpu")
