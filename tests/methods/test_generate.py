"""Generating for a test set with the stages of another dataset."""

import json

import pytest

from core.errors import UserError
from methods.contract import PreparedData
from methods.generate import generate
from methods.run import fit


def test_a_test_set_is_generated_with_the_stages_of_the_dataset_it_is_trained_on(prepared, tmp_path):
    home, away = (PreparedData(prepared, name, "smoke") for name in ("home", "away"))
    fit("mean_shape", "full", "mean", home, seed=0, runs=tmp_path, threads=1)
    options = {"seed": 0, "runs": tmp_path, "out": tmp_path / "out", "threads": 1}
    with pytest.raises(UserError, match="away"):
        generate("mean_shape", "full", away, **options)
    rows = generate("mean_shape", "full", away, **options, trained_on="home").read_text().splitlines()
    assert [json.loads(row)["status"] for row in rows] == ["ok", "ok"]
    record = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (record["dataset"], record["trained_on"]) == ("away", "home")
    assert record["dtype"] == "fp32"  # it does not say another
