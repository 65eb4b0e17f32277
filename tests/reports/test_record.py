"""A recorded run: the table as it was, its rows, and one manifest in which what all jobs share is said once."""

import hashlib
import json

import pandas as pd
import pytest

from core.errors import UserError
from evaluation.protocol import load
from evaluation.rows import write as write_rows
from reports import comparison, rows
from reports.record import record
from tests.reports.conftest import make_rows

VALUES = [0.5, 0.6, 0.7]
SPEED = {"samples_per_second": 640.0, "utilisation": {"card": "h100", "share": 0.4}, "energy_joules": 9e6}


def name_of(line):
    return {key: line[key] for key in ("method", "variant")}


@pytest.fixture
def run(tmp_path):
    """A runs/ folder with one stage used by two variants, and its table."""
    place = tmp_path / "runs" / "procedural" / "smoke"
    shared = {"git": {"commit": "abc", "dirty": False}, "python": "3.11", "dataset": "procedural", "scale": "smoke"}
    job = {**shared, "status": "ok", "seed": 0, "seconds": 10.0, "resumes": 0}

    def write(folder, value):
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(value))

    write(
        place / "stages" / "mar3d.vae-1" / "seed0",
        {**job, "val_viou": {"hr": {"mean": 0.8}}, "training_flops": 5e12, "device": {"kind": "cpu"}, **SPEED},
    )
    for variant in ("full", "no_mar_hr"):
        generated = {**job, "stages": {"vae": "mar3d.vae-1"}, "objects": 8, "flops": {"sample": 2e9}}
        write(place / "generated" / "mar3d" / variant / "seed0", generated)
        rows = place / "rows" / "v1" / "mar3d" / variant / "seed0.parquet"
        rows.parent.mkdir(parents=True)
        make_rows("mar3d", variant, fscore=VALUES).to_parquet(rows)
    table = tmp_path / "reports" / "table2.csv"
    table.parent.mkdir()
    context = {"dataset": "procedural", "scale": "smoke", "protocol": "v1"}
    names = [{"method": "mar3d", "variant": variant, **context} for variant in ("full", "no_mar_hr")]
    hashes = [comparison.hash_of(make_rows(**name_of(name), fscore=VALUES), load("v1")) for name in names]
    pd.DataFrame([{**n, "rows_hash": h} for n, h in zip(names, hashes, strict=True)]).to_csv(table, index=False)
    return tmp_path


def test_a_stage_that_two_variants_share_is_counted_once(run):
    record(run / "reports", run / "runs", run / "kept")
    manifest = json.loads((run / "kept" / "manifest.json").read_text())
    assert manifest["git"]["commit"] == "abc" and manifest["job_seconds"] == 30.0
    assert manifest["stages"]["mar3d.vae-1/seed0"]["val_viou"]["hr"]["mean"] == 0.8
    assert SPEED.items() <= manifest["stages"]["mar3d.vae-1/seed0"].items()
    assert set(manifest["generated"]) == {"mar3d/full/seed0", "mar3d/no_mar_hr/seed0"}
    assert all("git" not in job for job in manifest["generated"].values())


def test_table_and_rows_are_kept(run):
    names = record(run / "reports", run / "runs", run / "kept")
    assert names == ["table2.csv", "rows.csv", "manifest.json"]
    assert (run / "kept" / "table2.csv").read_bytes() == (run / "reports" / "table2.csv").read_bytes()
    kept = pd.read_csv(run / "kept" / "rows.csv", keep_default_na=False, na_values=[""])
    assert len(kept) == 2 * len(VALUES)
    for line in pd.read_csv(run / "reports" / "table2.csv").to_dict("records"):  # the table can be checked against them
        mine = kept[(kept["method"] == line["method"]) & (kept["variant"] == line["variant"])]
        assert comparison.hash_of(mine, load("v1")) == line["rows_hash"]


def test_stages_trained_on_another_dataset_are_found_there(run):
    place = run / "runs" / "gso" / "smoke"
    (run / "runs" / "procedural" / "smoke").rename(run / "moved")
    place.parent.mkdir(parents=True)
    (run / "moved").rename(place)
    (run / "runs" / "procedural" / "smoke").mkdir(parents=True)
    (place / "stages").rename(run / "runs" / "procedural" / "smoke" / "stages")
    for path in place.glob("generated/*/*/seed0/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "gso", "trained_on": "procedural"}))
    table = pd.read_csv(run / "reports" / "table2.csv", dtype=str).assign(dataset="gso")
    table.to_csv(run / "reports" / "table2.csv", index=False)
    record(run / "reports", run / "runs", run / "kept")
    manifest = json.loads((run / "kept" / "manifest.json").read_text())
    assert manifest["dataset"] == "gso" and set(manifest["stages"]) == {"mar3d.vae-1/seed0"}
    assert manifest["generated"]["mar3d/full/seed0"]["trained_on"] == "procedural"


def test_costs_are_kept(run):
    record(run / "reports", run / "runs", run / "kept")
    manifest = json.loads((run / "kept" / "manifest.json").read_text())
    assert manifest["stages"]["mar3d.vae-1/seed0"]["training_flops"] == 5e12
    assert manifest["generated"]["mar3d/full/seed0"]["flops"] == {"sample": 2e9}


def test_rows_of_another_backend_are_named_in_the_manifest(run):
    record(run / "reports", run / "runs", run / "kept")
    assert "scored_by" not in json.loads((run / "kept" / "manifest.json").read_text())
    path = run / "runs/procedural/smoke/rows/v1/mar3d/full/seed0.parquet"
    write_rows(make_rows("mar3d", "full", fscore=VALUES), path, backend="pytorch3d 0.7.9 on cuda, sampler cpu")
    record(run / "reports", run / "runs", run / "kept")
    manifest = json.loads((run / "kept" / "manifest.json").read_text())
    assert manifest["scored_by"] == {"pytorch3d 0.7.9 on cuda, sampler cpu": ["v1/mar3d/full/seed0"]}


def test_a_picture_of_an_earlier_run_does_not_stay(run):
    (run / "kept").mkdir()
    (run / "kept" / "sheet.png").write_bytes(b"old")
    with pytest.raises(UserError, match=r"holds sheet\.png, not of this run"):
        record(run / "reports", run / "runs", run / "kept")
    assert [path.name for path in (run / "kept").iterdir()] == ["sheet.png"]
    (run / "sheet.png").write_bytes(b"new")
    assert "sheet.png" in record(run / "reports", run / "runs", run / "kept", [run / "sheet.png"])
    assert (run / "kept" / "sheet.png").read_bytes() == b"new"


def test_rows_of_a_seed_that_the_table_does_not_have_are_refused(run):
    place = run / "runs" / "procedural" / "smoke" / "rows" / "v1" / "mar3d" / "full"
    make_rows("mar3d", "full", fscore=VALUES, seed=1).to_parquet(place / "seed1.parquet")
    with pytest.raises(UserError, match=r"rows of mar3d/full that are there now \(protocol v1, seeds 0, 1\)"):
        record(run / "reports", run / "runs", run / "kept")


@pytest.fixture
def rebuilt(run):
    """The same run with a table of the VAE under another protocol, listed beside Table 2."""
    place, rows = run / "runs/procedural/smoke", make_rows("vae_study", "pyramid_hr", fscore=VALUES, protocol="vecset")
    path = place / "rows/vecset/vae_study/pyramid_hr/seed0.parquet"
    path.parent.mkdir(parents=True)
    rows.to_parquet(path)
    generated = place / "generated/vae_study/pyramid_hr/seed0"
    generated.mkdir(parents=True)
    shared = json.loads((place / "generated/mar3d/full/seed0/manifest.json").read_text())
    (generated / "manifest.json").write_text(json.dumps(shared))
    line = {"method": "vae_study", "variant": "pyramid_hr", "dataset": "procedural", "scale": "smoke"}
    line |= {"protocol": "vecset", "rows_hash": comparison.hash_of(rows, load("vecset"))}
    pd.DataFrame([line]).to_csv(run / "reports" / "figure4.csv", index=False)
    listed = [run / "reports" / name for name in ("table2.csv", "figure4.csv")]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  reports/{path.name}\n" for path in listed]
    (run / "reports" / "all").write_text("".join(lines))
    return run


def test_rows_of_every_protocol_that_a_table_is_of_are_kept(rebuilt):
    record(rebuilt / "reports", rebuilt / "runs", rebuilt / "kept")
    kept = pd.read_csv(rebuilt / "kept" / "rows.csv")
    assert {name: set(part["method"]) for name, part in kept.groupby("protocol")} == {
        "v1": {"mar3d"}, "vecset": {"vae_study"},
    }  # fmt: skip
    manifest = json.loads((rebuilt / "kept" / "manifest.json").read_text())
    assert "vae_study/pyramid_hr/seed0" in manifest["generated"]
    for name in ("v1", "vecset"):  # each table can be made of them again
        assert set(rows.read([rebuilt / "kept" / "rows.csv"], name)["protocol"]) == {name}


def test_rows_of_another_protocol_that_a_table_was_not_made_of_are_refused(rebuilt):
    path = rebuilt / "runs/procedural/smoke/rows/vecset/vae_study/pyramid_hr/seed0.parquet"
    make_rows("vae_study", "pyramid_hr", fscore=[0.9, 0.9, 0.9], protocol="vecset").to_parquet(path)
    with pytest.raises(
        UserError, match=r"rows of vae_study/pyramid_hr that are there now \(protocol vecset, seeds 0\)"
    ):
        record(rebuilt / "reports", rebuilt / "runs", rebuilt / "kept")


def test_no_table_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="make it first"):
        record(tmp_path, tmp_path, tmp_path / "out")


def test_all_that_the_list_names_is_kept_and_what_changed_since_is_refused(run):
    reports = run / "reports"
    (reports / "figure9.png").write_bytes(b"picture")
    listed = [reports / "table2.csv", reports / "figure9.png"]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  reports/{path.name}\n" for path in listed]
    (reports / "all").write_text("".join(lines))
    assert record(reports, run / "runs", run / "kept") == ["table2.csv", "figure9.png", "rows.csv", "manifest.json"]
    assert (run / "kept" / "figure9.png").read_bytes() == b"picture"
    (reports / "figure9.png").write_bytes(b"another")
    with pytest.raises(UserError, match=r"figure9\.png is not as .* lists it"):
        record(reports, run / "runs", run / "kept")


def test_a_setting_that_was_not_run_is_left_out(run):
    table = run / "reports" / "table2.csv"
    with table.open("a") as file:
        file.write("dit,cascade,procedural,smoke,v1,\n")
    record(run / "reports", run / "runs", run / "kept")
    assert set(pd.read_csv(run / "kept" / "rows.csv")["method"]) == {"mar3d"}
