import numpy as np
import pytest

from core.errors import UserError
from evaluation import protocol
from methods import registry, specs
from reports import comparison, rows, schedules
from tests.reports.conftest import make_rows

V1 = protocol.load("v1")
VALUES = np.linspace(0.2, 0.9, 8)
SPEC = schedules.read()


@pytest.fixture
def build(write):
    def table(*frames, configured=()):
        return schedules.table(rows.read(write(*frames)), SPEC, configured, V1)

    return table


def test_every_setting_is_a_variant_that_shares_all_stages_with_the_base():
    for sweep in SPEC["sweeps"]:
        for entry in sweep["settings"]:
            for scale in specs.SCALES:
                base, other = (registry.resolve(*name.split("/"), scale) for name in (SPEC["base"], entry["setting"]))
                assert other.stages == base.stages


def test_the_value_of_a_sweep_is_what_the_variant_samples_with():
    sweeps = {sweep["sweep"]: sweep["settings"] for sweep in SPEC["sweeps"]}

    def sampling(entry):
        return registry.resolve(*entry["setting"].split("/"), "paper").params["sampling"]

    for entry in sweeps["autoregressive steps"]:
        assert [sampling(entry)[stage]["steps"] for stage in ("lr", "hr")] == [int(entry["value"])] * 2
    for entry in sweeps["condition augmentation t at inference"]:
        assert sampling(entry)["hr"]["augmentation"] == float(entry["value"])
    for entry in sweeps["guidance"][:2]:
        assert sampling(entry)["hr"]["guidance_schedule"] == entry["value"]
    assert [sampling(entry)["lr"]["schedule"] for entry in sweeps["decoding schedule"][:2]] == ["cosine", "uniform"]


def test_a_difference_is_to_the_base_and_what_has_no_rows_is_not_run(build):
    frame = build(make_rows("mar3d", fscore=VALUES), make_rows("mar3d", "schedule_uniform", fscore=VALUES - 0.1))
    frame = frame.set_index(["sweep", "value"])
    line = frame.loc[("decoding schedule", "uniform")]
    assert [line[f"fscore_difference{end}"] for end in ("", "_low", "_high")] == pytest.approx([-0.1] * 3)
    base = frame.loc[("decoding schedule", "cosine")]
    assert np.isnan(base["fscore_difference"]) and base["fscore"] == pytest.approx(VALUES.mean())
    left_out = frame.loc[("autoregressive steps", "4")]
    assert (left_out["status"], left_out["n_objects"]) == ("not run", 0)
    assert np.isnan(left_out["fscore"])


def test_a_setting_with_the_parameters_of_the_base_is_marked():
    steps = registry.resolve("mar3d", "full", "paper").params["sampling"]["lr"]["steps"]
    assert schedules.same_params(f"mar3d/steps_{steps}", "mar3d/full", "paper")
    assert not schedules.same_params("mar3d/steps_1", "mar3d/full", "paper")
    assert not schedules.same_params("nobody/full", "mar3d/full", "paper")


def test_a_configured_setting_that_would_not_be_shown_is_refused(build):
    with pytest.raises(UserError, match="no setting 'mar3d/no_mar_hr'"):
        build(make_rows("mar3d", fscore=VALUES), configured=["mar3d/full", "mar3d/no_mar_hr"])


def test_the_page_says_what_it_is_of_and_equal_rows_give_equal_bytes(build):
    made = make_rows("mar3d", fscore=VALUES), make_rows("mar3d", "steps_1", fscore=VALUES**2)

    def frame():
        return build(*made)

    assert comparison.to_csv(frame()) == comparison.to_csv(frame())
    text = schedules.page(frame(), V1)
    assert "dataset procedural, scale smoke, protocol v1" in text.splitlines()[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + sum(len(sweep["settings"]) for sweep in SPEC["sweeps"])


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_no_more_steps_are_shown_than_there_are_tokens(build, scale):
    tokens = registry.resolve("mar3d", "full", scale).params["latent"]["tokens"]
    assert schedules.steps_made("mar3d/steps_64", scale) == (min(64, tokens["lr"]), min(64, tokens["hr"]))
    assert schedules.steps_made("mar3d/steps_1", scale) == (1, 1)
    frame = build(make_rows("mar3d", fscore=VALUES).assign(scale=scale))
    assert f"| {min(64, tokens['lr'])} + {min(64, tokens['hr'])} |" in schedules.page(frame, V1)
