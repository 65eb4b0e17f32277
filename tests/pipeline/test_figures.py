"""What the rule of artefacts is told of the figures."""

from __future__ import annotations

from pipeline import config
from pipeline.artefacts import ARTEFACTS
from pipeline.dag import Dag
from reports.__main__ import parser


def dag(**given):
    return Dag(config.load({"scale": "smoke", **given}))


def test_figure4_needs_each_kind_at_each_count_once():
    paths = dag(seeds=[0, 1]).rows("figure4")
    assert len(set(paths)) == len(paths) == 2 * 15  # each seed trains VAEs of its own
    assert "runs/procedural/smoke/rows/vecset/vae_study/single_twice_hr/seed0.parquet" in paths


def test_figure6_needs_no_more_than_figure4():
    made = dag()
    assert set(made.rows("figure6")) <= set(made.rows("figure4"))


def test_figure5_needs_what_table_s1_needs():
    made = dag()
    assert made.rows("figure5") == made.rows("table_s1")


def test_the_command_lines_are_ones_that_the_front_door_takes():
    made = dag()
    for name in ("figure3", "figure4", "figure5", "figure6"):
        line = f"{name} {made.report_arguments(name)} --rows rows.parquet --out reports/{ARTEFACTS[name].files[0]}"
        assert parser().parse_args(line.split()).command == name


def test_what_draws_is_said_to_figures_of_meshes_where_it_is_not_the_default():
    usual, chosen = dag(), dag(evaluation={"backend": "pytorch3d"})
    for name in ("figure3", "figure5", "figure6"):
        assert "--backend" not in usual.report_arguments(name)
        line = f"{name} {chosen.report_arguments(name)} --rows rows.parquet"
        assert parser().parse_args(line.split()).backend == "pytorch3d"
    for name in ("figure4", "table2"):
        assert chosen.report_arguments(name) == usual.report_arguments(name)
