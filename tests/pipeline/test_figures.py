"""What the rules of the figures name."""

from __future__ import annotations

import pytest

from core.errors import UserError
from pipeline import config
from pipeline.dag import Dag
from pipeline.figures import FILES, Figures


def figures(**given):
    return Figures(Dag(config.load({"scale": "smoke", **given})))


def test_figure4_needs_each_kind_at_each_count_once():
    paths = figures(seeds=[0, 1]).rows("figure4")
    assert len(set(paths)) == len(paths) == 15  # the study has no randomness after training: one seed
    assert "runs/procedural/smoke/rows/v1/vae_study/single_twice_hr/seed0.parquet" in paths


def test_figure6_needs_no_more_than_figure4():
    made = figures()
    assert set(made.rows("figure6")) <= set(made.rows("figure4"))


def test_stochastic_settings_are_needed_with_every_seed():
    paths = figures(seeds=[3, 4], figure3={"settings": ["mar3d/full"], "controls": ["retrieval/full"]}).rows("figure3")
    assert [path.split("/")[-3:] for path in paths] == [
        ["mar3d", "full", "seed3.parquet"], ["mar3d", "full", "seed4.parquet"], ["retrieval", "full", "seed3.parquet"],
    ]  # fmt: skip


def test_the_command_line_is_one_that_the_front_door_takes():
    from reports.__main__ import parser

    made = figures()
    for name, files in FILES.items():
        line = f"{name} {made.arguments(name)} --rows rows.parquet --out reports/{files[0]}"
        assert parser().parse_args(line.split()).command == name


def test_a_setting_that_no_method_has_is_one_sentence():
    with pytest.raises(UserError, match="there is no variant of mar3d 'ful'"):
        figures(figure3={"settings": ["mar3d/ful"]})
    with pytest.raises(UserError, match="figure5: 'mar3d' is not method/variant"):
        figures(figure5={"settings": ["mar3d"]})
