import importlib.util
import json
import os
import re
import resource
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from core.errors import UserError
from core.identity import ROOT
from evaluation import protocol
from methods import registry
from pipeline import config
from pipeline.artefacts import ARTEFACTS, EVERYTHING, asked_for, protocol_of
from pipeline.dag import Dag
from pipeline.objects import lists_of
from reports import claims, contrast

SMOKE = {"scale": "smoke"}


def dag(**given):
    return Dag(config.load(SMOKE | given))


def wildcards(**values):
    return SimpleNamespace(**values)


@pytest.mark.parametrize("shown, cores, threads", [("", 16, 1), ("0", 16, 8), ("0,1,2,3", 16, 4), ("0,1", 1, 1)])
def test_a_fit_with_a_card_has_its_part_of_the_cores(monkeypatch, shown, cores, threads):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores))
    smoke = dag()
    stages = {folder.split("-")[0]: folder for folder in smoke.stages}
    assert smoke.threads_of_fit(wildcards(stage=stages["mar3d.vae"])) == threads
    assert smoke.threads_of_fit(wildcards(stage=stages["retrieval.index"])) == 1  # takes no card


def test_the_shards_hold_every_object_once():
    smoke = dag()
    held = [spec.object for split, i in (("train", 0), ("train", 1), ("val", 0), ("test", 0))
            for spec in smoke._specs(wildcards(split=split, shard=f"{i:05d}"))]  # fmt: skip
    assert sorted(held) == sorted(spec.object for spec in smoke.objects)
    assert len(smoke.shards(None)) == 4
    assert len(smoke.test_shards(None)) == 1


def test_other_data_lie_in_another_folder():
    folders = {
        dag(**given).prepared for given in ({}, {"shard_size": 5}, {"prepare": {"points": 256}}, {"seeds": [1, 2]})
    }
    assert len(folders) == 3  # seeds are not part of the data


def test_a_folder_of_meshes_that_moves_keeps_its_data(tmp_path):
    names = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        for name in ("a", "b", "c", "d"):
            (tmp_path / place / f"{name}.obj").write_text("")
        entry = {"mine": {"source": "folder", "root": str(tmp_path / place)}}
        names.append(dag(dataset="mine", datasets=entry).prepared)
    assert names[0] == names[1]


def test_what_an_index_tells_of_an_object_is_part_of_the_data(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.obj").write_text("")
    names = set()
    for told in ("chair,cc0", "stool,cc0", "chair,by"):
        lines = [f"{k},{k}.obj,{split},{told}\n" for k, split in zip("abc", ("train", "val", "test"), strict=True)]
        (tmp_path / "index.csv").write_text("id,path,split,category,licence\n" + "".join(lines))
        entry = {"mine": {"source": "folder", "root": str(tmp_path), "index": "index.csv"}}
        names.add(dag(dataset="mine", datasets=entry).prepared)
    assert len(names) == 3


def test_a_name_that_no_file_can_have_stops_no_run(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.obj").write_text("")
    long = "x" * 300
    lines = ["a,a.obj,train,x\n", "b,b.obj,val,x\n", "c,c.obj,test,x\n", f"d,{long}.obj,train,x\n"]
    (tmp_path / "index.csv").write_text("id,path,split,category\n" + "".join(lines))
    entry = {"mine": {"source": "folder", "root": str(tmp_path), "index": "index.csv"}}
    raw = dag(dataset="mine", datasets=entry).raw_meshes(wildcards(split="train", shard="00000"))
    assert [path.rsplit("/", 1)[1] for path in raw] == ["a.obj"]  # the other one is for the quarantine


def test_a_scoring_is_told_its_backend_and_sampler_where_they_are_not_the_defaults():
    row = wildcards(method="mar3d", variant="full", seed="0", protocol="v1")
    usual = dag().score_arguments(row)
    assert "--backend" not in usual and "--sampler" not in usual
    assert dag(evaluation={"backend": "auto", "sampler": "cpu"}).score_arguments(row) == usual
    chosen = dag(evaluation={"backend": "pytorch3d", "sampler": "backend"}).score_arguments(row)
    assert chosen == f"{usual} --backend pytorch3d --sampler backend"
    with pytest.raises(UserError, match=r"evaluation.sampler"):
        config.load(SMOKE | {"evaluation": {"sampler": "gpu"}})


def test_stages_that_two_variants_share_have_one_name():
    smoke = dag()
    full = smoke.stages_of(wildcards(method="mar3d", variant="full", seed="0"))
    less = smoke.stages_of(wildcards(method="mar3d", variant="no_condition_augmentation", seed="0"))
    assert full[:2] == less[:2]  # vae, mar_lr
    assert full[2] != less[2]
    assert len(smoke.stages_of(wildcards(method="mar3d", variant="no_mar_hr", seed="0"))) == 2


def test_every_stage_has_arguments_code_and_what_it_needs():
    smoke = dag()
    for name, stage in smoke.stages.items():
        card = wildcards(stage=name, seed="0")
        assert f"--stage {stage.name} " in smoke.fit_arguments(card)
        assert len(smoke.upstream(card)) == len(stage.needs)
        assert smoke.fit_code(card)
        variant = re.search(r"--variant (\S+)", smoke.fit_arguments(card))[1]
        assert stage in registry.resolve(stage.owner, variant, "smoke").stages


def test_the_longest_training_comes_first():
    cpu = Dag(config.load({"scale": "cpu"}))
    steps = {}
    for folder, stage in cpu.stages.items():
        if stage.owner == "mar3d" and stage.name != "vae":
            steps[cpu.fit_priority(wildcards(stage=folder))] = stage.params[stage.name]["training"]["steps"]
    assert len(steps) > 1 and [steps[p] for p in sorted(steps)] == sorted(steps.values())
    untrained = [f for f, stage in cpu.stages.items() if stage.owner == "retrieval"]
    assert {cpu.fit_priority(wildcards(stage=f)) for f in untrained} == {10}


def test_a_name_that_is_not_known_matches_no_rule():
    constraints = dag().wildcards()
    assert re.fullmatch(constraints["method"], "mar3d")
    assert not re.fullmatch(constraints["method"], "mar3dd")
    assert not re.fullmatch(constraints["stage"], "mar3d.vae-0000000000")
    assert not re.fullmatch(constraints["seed"], "007")


def test_a_method_without_randomness_is_run_once_whatever_the_seeds():
    table = {"settings": ["mar3d/full"], "controls": ["mean_shape/full"]}
    paths = dag(seeds=[3, 4], table2=table).rows("table2")
    assert [path.split("/")[-3:] for path in paths] == [
        ["mar3d", "full", "seed3.parquet"], ["mar3d", "full", "seed4.parquet"], ["mean_shape", "full", "seed3.parquet"],
    ]  # fmt: skip


def test_raw_meshes_are_those_that_exist_inside_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.obj").write_text("")
    for name in ("a.obj", "b {x}.obj"):
        (tmp_path / "in" / name).write_text("")
    lines = ["id,path,split,category", "a,a.obj,train,x", "b,b {x}.obj,train,x", "gone,gone.obj,train,x"]
    lines += ["away,../out.obj,train,x", "v,a.obj,val,x", "t,a.obj,test,x"]
    (tmp_path / "in" / "index.csv").write_text("\n".join(lines) + "\n")
    mine = dag(dataset=str(tmp_path / "in"))
    paths = mine.raw_meshes(wildcards(split="train", shard="00000"))
    assert sorted(path.split("/")[-1] for path in paths) == ["a.obj", "b {x}.obj"]
    assert json.loads(mine.prepare_job(wildcards(split="train", shard="00000")))["source"]["index"] == "index.csv"


def test_a_dataset_without_test_objects_is_refused_at_once(tmp_path):
    (tmp_path / "a.obj").write_text("")
    with pytest.raises(UserError, match="no object in its train split"):
        dag(dataset=str(tmp_path))


@pytest.mark.parametrize(("value", "gpus"), [("", 0), ("0", 1), ("0,1", 1)])
def test_a_gpu_is_asked_for_only_where_one_is_visible(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    smoke = dag()
    stage = next(name for name in smoke.stages if name.startswith("mar3d.mar_lr"))
    assert smoke.gpus_of_fit(wildcards(stage=stage)) == gpus
    assert smoke.gpus_of_generate(wildcards(method="mar3d")) == gpus
    assert smoke.gpus_of_generate(wildcards(method="retrieval")) == 0


@pytest.mark.parametrize(
    ("backend", "installed", "visible", "gpus", "of_figure"),
    [
        ("auto", (), "0", 0, 0),  # the CPU path
        ("auto", ("kaolin", "pytorch3d"), "0", 0, 0),  # the card is for the trainings
        ("kaolin", ("kaolin",), "0", 1, 0),  # which draws no meshes
        ("kaolin", ("kaolin",), "", 0, 0),
        ("cpu", ("kaolin", "pytorch3d"), "0", 0, 0),
        ("pytorch3d", ("pytorch3d",), "0,1", 1, 1),
        ("pytorch3d", ("pytorch3d",), "", 0, 0),  # which then runs on the CPU
    ],
)
def test_a_scoring_or_a_figure_asks_for_a_gpu_only_where_its_backend_would_use_one(
    monkeypatch, backend, installed, visible, gpus, of_figure
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
    found = dag(evaluation={"backend": backend})
    row = wildcards(method="mar3d")
    assert found.gpus_of_score(row) == gpus
    assert found.threads_of_score(row) == (8 if gpus else 2)
    assert found.gpus_of_report("figure3") == of_figure
    assert found.gpus_of_report("table2") == 0


@pytest.mark.parametrize(
    ("backend", "visible", "gpus"), [("pytorch3d", "", 0), ("pytorch3d", "0", 1), ("auto", "0", 0)]
)
def test_a_scoring_locks_its_card_as_a_training_does_or_sees_none(tmp_path, backend, visible, gpus):
    (tmp_path / "site/pytorch3d").mkdir(parents=True)
    (tmp_path / "site/pytorch3d/__init__.py").touch()
    command = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores", "4", "-n", "-p"]
    command += [
        "--config",
        "scale=smoke",
        f"evaluation={{backend: {backend}}}",
        "--",
        "runs/procedural/smoke/rows/v1/mean_shape/full/seed0.parquet",
    ]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = r"python -m pipeline alone (.*) python -m evaluation rows .* --threads (\d+) "
    ((line, threads),) = re.findall(asked, done.stdout + done.stderr)
    assert threads == ("4" if gpus else "2")  # of 8, no more than --cores
    assert line == f"--gpus {gpus} runs/procedural/smoke/logs/score/v1-mean_shape-full-seed0.log.lock"


def test_an_artefact_needs_the_rows_of_those_it_is_judged_on_each_once():
    smoke = dag()
    judged = smoke.rows("claims")
    assert len(set(judged)) == len(judged)
    for other in smoke.config["claims"]["of"]:
        assert set(smoke.rows(other)) <= set(judged)


def test_the_vae_is_judged_under_a_protocol_in_which_every_displacement_counts():
    smoke = dag()
    for name in ("figure4", "figure6"):
        recipe = protocol.load(protocol_of(smoke.config, name))
        assert (recipe.normalise, recipe.align.starts) == ("truth", "none") and recipe.viou
        assert {path.split("/")[4] for path in smoke.rows(name)} == {recipe.name}
        assert smoke.report_arguments(name).startswith(f"--protocol {recipe.name}")
        assert smoke.description(name).endswith(f"protocol {recipe.name}")
    assert smoke.description("table2").endswith("protocol v1")


def test_every_claim_finds_its_rows_under_its_protocol():
    smoke = dag()
    judged = {tuple(path.split("/")[4:7]) for path in smoke.rows("claims")}
    assert {name for name, _, _ in judged} == {"v1", "vecset"}
    for claim in claims.read()["claims"].values():
        recipe = claims.protocol_of(claim, protocol.load("v1")).name
        for setting in contrast.parse(claim["expression"]).weights:
            assert (recipe, *setting.split("/")) in judged


def test_another_protocol_of_the_run_leaves_those_that_are_named():
    other = dag(evaluation={"protocol": "triposr"})
    assert {path.split("/")[4] for path in other.rows("claims")} == {"triposr", "vecset"}
    assert {path.split("/")[4] for path in other.rows("table2")} == {"triposr"}


def test_a_scale_may_run_less():
    assert dag(schedules={"settings": ["mar3d/full"]}).rows("schedules") == dag().rows("table2")[:1]


def test_the_command_of_an_artefact_is_told_what_it_asks_for():
    table2, numbers = (dag().report_arguments(name) for name in ("table2", "table_s1"))
    assert "--held-out stool" in table2 and "--root" not in table2
    assert table2.index("--settings mar3d/full ") < table2.index("--controls ground_truth/full ")
    assert "--root runs/procedural/smoke" in numbers and "--controls" not in numbers


def test_every_artefact_has_a_command_files_of_its_own_and_what_it_reads():
    from core.identity import ROOT
    from reports.__main__ import parser

    files = [path for artefact in ARTEFACTS.values() for path in artefact.paths]
    assert len(set(files)) == len(files)
    smoke = dag()
    for artefact in ARTEFACTS.values():
        line = f"{artefact.name} {smoke.report_arguments(artefact.name)} --rows x --out {artefact.paths[0]}"
        assert str(parser().parse_args(line.split()).out) == artefact.paths[0]
        assert all((ROOT / "reports" / name).is_file() for name in artefact.reads)


def test_what_a_run_is_asked_for():
    assert [artefact.name for artefact in asked_for(set())] == ["table2"]
    assert [artefact.name for artefact in asked_for({"reports/table2_by_category.csv"})] == ["table2"]
    assert [artefact.name for artefact in asked_for({"reports/claims.md"})] == ["claims"]
    assert [artefact.name for artefact in asked_for({EVERYTHING})] == list(ARTEFACTS)


def test_more_objects_are_more_shards_and_no_other_jobs():
    small, large = (
        dag(shard_size=250, datasets={"procedural": {"counts": {"train": train, "val": 64, "test": 64}}})
        for train in (250, 100_000)
    )
    assert len(small.shards(None)) == 3
    assert len(large.shards(None)) == 402
    assert len(small.test_shards(None)) == len(large.test_shards(None)) == 1
    assert small.stages.keys() == large.stages.keys()
    for name in ARTEFACTS:
        assert small.rows(name) == large.rows(name)


def test_naming_the_papers_objects_takes_seconds():
    start = time.process_time()  # of this process: others may keep the machine busy
    paper = dag(scale="paper", datasets={"procedural": {"counts": {"train": 320_000, "val": 1000, "test": 200}}})
    shards = [path.removesuffix(".safetensors").split("/")[-2:] for path in paper.shards(None)]
    held = [len(paper._specs(wildcards(split=split, shard=shard))) for split, shard in shards]
    assert (len(held), sum(held)) == (1285, 321_200)
    assert time.process_time() - start < 10


def papers_downloads(tmp_path):
    """A dataset of Objaverse by two lists as long as the paper's, the second part of the first."""
    lists = []
    for phase, count in (("broad", 261_100), ("fine", 60_000)):
        (tmp_path / f"{phase}.txt").write_text("".join(f"{number:032x}\n" for number in range(count)))
        lists.append({"path": str(tmp_path / f"{phase}.txt"), "split": "train", "phase": phase})
    return {"source": "objaverse", "root": "raw", "lists": lists, "hold_out": {"val": 1000, "test": 100}}


def test_naming_the_papers_downloads_takes_seconds(tmp_path):
    source = papers_downloads(tmp_path)
    start = time.process_time()
    paper = dag(scale="paper", dataset="mine", datasets={"mine": source})
    for path in (shards := paper.shards(None)):
        split, shard = path.removesuffix(".safetensors").split("/")[-2:]
        card = wildcards(split=split, shard=shard)
        assert len(paper.acquired(card)) == 1 and paper.raw_meshes(card) == []
        assert len(paper.acquire_job(card)) + len(paper.prepare_job(card)) < 10_000  # not a list of objects
    assert len(shards) == 1040 + 4 + 1
    assert time.process_time() - start < 10


@pytest.mark.skipif(not os.environ.get("PAPER_DAG"), reason="a quarter of a minute of a processor each: PAPER_DAG=1")
@pytest.mark.parametrize("dataset, prepare", [("procedural", 1285), ("mine", 1045)])
def test_a_dry_run_at_the_papers_data_size_takes_seconds(tmp_path, dataset, prepare):
    """The whole command, rules and all: processor seconds of its process, and jobs by shards."""
    datasets = {"procedural": {"counts": {"train": 320_000, "val": 1000, "test": 200}}}
    datasets["mine"] = papers_downloads(tmp_path)
    given = {"scale": "paper", "dataset": dataset, "datasets": datasets}
    (tmp_path / "given.yaml").write_text(json.dumps(given))  # JSON is YAML
    line = [sys.executable, "-m", "snakemake", "--snakefile", f"{ROOT}/Snakefile", "--cores", "2", "-n", "--quiet"]
    line += ["rules", "--configfile", "given.yaml", "--workflow-profile", f"{ROOT}/profiles/default"]
    line += ["--", "reports/table2.csv"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}
    print(f"\n{dataset}: {seconds:.1f} s of a processor, {jobs['total']} jobs")
    assert jobs["prepare"] == jobs.get("acquire", prepare) == prepare
    assert (jobs["fit"], jobs["generate"], jobs["score"]) == (11, 9, 9)
    assert seconds <= 10


# ------------------------------------------------------------ datasets that are downloaded, and test sets alone


def downloaded(tmp_path, **more):
    lines = [f"object_{i:03d},{split}," for i, split in enumerate(["train"] * 30 + ["val"] * 4 + ["test"] * 6)]
    (tmp_path / "list.csv").write_text("id,split,category\n" + "\n".join(lines) + "\n")
    return {"source": "gso", "root": str(tmp_path / "raw"), "lists": [{"path": str(tmp_path / "list.csv")}], **more}


def test_a_shard_of_downloaded_objects_waits_for_its_own_acquisition(tmp_path):
    mine = dag(dataset="away", datasets={"away": downloaded(tmp_path)})
    card = wildcards(split="train", shard="00001")
    (path,) = mine.acquired(card)
    job = json.loads(mine.acquire_job(card))
    assert job["out"] == path == f"{mine.prepared}/train/00001.acquired.csv"
    assert mine.raw_meshes(card) == [] and dag().acquired(card) == []
    assert set(job) >= {"source", "split", "shard", "shard_size"}


def test_a_mirror_prepares_nothing_again_and_other_licences_do(tmp_path):
    plain, mirror, other = (
        dag(dataset="away", datasets={"away": downloaded(tmp_path, **more)})
        for more in ({}, {"url": "http://mirror.example"}, {"licences": ["cc0"]})
    )
    card = wildcards(split="test", shard="00000")
    assert mirror.prepared == plain.prepared != other.prepared
    assert mirror.prepare_job(card) == plain.prepare_job(card)
    assert mirror.acquire_job(card) != plain.acquire_job(card)


def test_jobs_grow_with_shards_and_not_with_objects(tmp_path):
    counts = [len(dag(dataset="s", datasets={"s": downloaded(tmp_path)}, shard_size=n).shards(None)) for n in (5, 10)]
    assert counts == [6 + 1 + 2, 3 + 1 + 1]


def a_test_set(tmp_path, monkeypatch, train="procedural"):
    """A test set of what is trained on another dataset, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    text = "id,split\nobject_001,test\nobject_002,test\nanother,train\n"
    (tmp_path / "test.csv").write_text(text)
    entry = {"source": "gso", "root": "raw", "lists": [{"path": str(tmp_path / "test.csv")}], "trained_on": train}
    return {"dataset": "away", "datasets": {"away": entry}}


def test_a_test_set_takes_the_stages_of_the_dataset_it_is_trained_on(tmp_path, monkeypatch):
    away, home = dag(**a_test_set(tmp_path, monkeypatch)), dag()
    card = wildcards(method="mar3d", variant="full", seed="0")
    with pytest.raises(UserError, match="test set of what is trained on procedural: run dataset=procedural first"):
        away.stages_of(card)
    for path in home.stages_of(card):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text("{}")
    assert away.stages_of(card) == home.stages_of(card)
    assert "--trained-on procedural" in away.generate_arguments(card) and "--dataset away" in away.generate_arguments(
        card
    )
    assert "--trained-on" not in home.generate_arguments(card)
    assert len(away.shards(None)) == 1  # nothing but the test split is prepared
    assert away.rows("table2")[0].startswith("runs/away/")


def test_a_test_set_is_not_one_that_was_taught(tmp_path, monkeypatch):
    given = a_test_set(tmp_path, monkeypatch, train="other")
    given["datasets"]["other"] = downloaded(tmp_path)
    with pytest.raises(
        UserError, match="2 test objects of away are in the training data of other, for example object_00"
    ):
        dag(**given)


def test_stages_that_came_without_their_training_lists_are_tested_with_a_warning(tmp_path, monkeypatch, capsys):
    given = a_test_set(tmp_path, monkeypatch, train="objaverse")  # whose lists are not in the repository
    with pytest.raises(UserError, match=r"there is no object list .*objaverse_broad"):
        dag(**given)
    stage = next(name for name, spec in dag().stages.items() if spec.owner == "mean_shape")
    manifest = tmp_path / f"runs/objaverse/smoke/stages/{stage}/seed0/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert dag(**given).stages_of(wildcards(method="mean_shape", variant="full", seed="0"))
    assert "nothing says whether test objects of away are in the training data of objaverse" in capsys.readouterr().err
    assert list(lists_of(dag(**given))[1]) == ["away"]


def test_a_test_set_of_a_dataset_that_is_not_known_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"datasets\.away\.trained_on: .*no other dataset 'procedurall'"):
        dag(**a_test_set(tmp_path, monkeypatch, train="procedurall"))
