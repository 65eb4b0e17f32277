"""There and back: what is packed here runs elsewhere, and what comes back counts as done."""

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from core.files import read_json
from core.identity import ROOT

CONFIG = "scale: smoke\nshard_size: 2\ndatasets: {procedural: {counts: {train: 2, val: 2, test: 2}}}\n"
ROOMS = ("core", "data", "methods", "evaluation", "pipeline", "reports", "config", "profiles")


def run(root, *arguments, cwd=None, fails=False):
    """`python -m …` of the checkout `root`, in `cwd` (by default the checkout); returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE")}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(root)}
    line = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(line, cwd=cwd or root, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def snakemake(root, *arguments):
    return run(root, "snakemake", "--cores", "2", "--configfile", root / "bundle.yaml", *arguments)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A committed checkout with prepared data and one trained stage of the template, which keeps a cache."""
    root = tmp_path_factory.mktemp("home") / "checkout"
    for name in ROOMS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "recorded", "*.md"))
    shutil.copy(ROOT / "Snakefile", root)
    shutil.copy(ROOT / ".gitignore", root)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    (root / "bundle.yaml").write_text(CONFIG)
    stage = _names(root).stages_of(_words(method="template", variant="full", seed="0"))
    snakemake(root, "--", *stage)
    manifest = root / stage[0]
    manifest.write_text(json.dumps(read_json(manifest) | {"caches": ["kept.safetensors"]}))
    (manifest.parent / "kept.safetensors").write_bytes(b"large")
    features = root / _names(root).prepared / "features/clip-0123456789"
    features.mkdir(parents=True)
    (features / "00000.safetensors").write_bytes(b"larger")
    return root


def _names(root):
    from core.yaml_files import read_yaml
    from pipeline.config import load
    from pipeline.dag import Dag

    return Dag(load(read_yaml(root / "bundle.yaml")))


def _words(**values):
    from types import SimpleNamespace

    return SimpleNamespace(**values)


@pytest.fixture(scope="module")
def away(home, tmp_path_factory):
    """The bundle unpacked elsewhere, and there the meshes of a control and of the template."""
    folder = tmp_path_factory.mktemp("away")
    options = ["--configfile", home / "bundle.yaml", "--stages"]
    said = run(home, "pipeline", "pack", "--out", folder / "bundle.tar.gz", *options)
    assert "code" in said and "shards" in said and "stages" in said
    run(home, "pipeline", "unpack", folder / "bundle.tar.gz", "--into", folder)
    there = folder / "benchmark"
    said = snakemake(there, "--", *targets(there))
    assert "fit" not in said.split("Job stats:")[1].split("total")[0]  # the stage came along
    return there


def targets(root):
    place = f"{_names(root).root}/generated"
    return [f"{place}/{method}/full/seed0/generate.jsonl" for method in ("ground_truth", "template")]


def test_what_comes_back_counts_as_done_and_only_once(home, away, tmp_path):
    archive, options = tmp_path / "results.tar.gz", ["--configfile", home / "bundle.yaml"]
    run(away, "pipeline", "results", "--configfile", "bundle.yaml", "--out", archive)
    assert "taken: 2, here already: 1, kept instead: 0" in run(home, "pipeline", "collect", archive, *options)
    assert "Nothing to be done" in snakemake(home, "-n", "--", *targets(home))
    assert "taken: 0, here already: 3" in run(home, "pipeline", "collect", archive, *options)

    mine = home / targets(home)[1]
    mine.write_text(mine.read_text() + "\n")  # another result: it stays unless asked otherwise
    said = run(home, "pipeline", "collect", archive, *options, fails=True)
    assert "kept: " in said and "template/full/seed0" in said
    assert mine.read_text().endswith("\n\n")
    assert "taken: 1" in run(home, "pipeline", "collect", archive, *options, "--replace")
    assert not mine.read_text().endswith("\n\n")

    source = home / "methods/template/method.py"
    text = source.read_text()
    source.write_text(text + "CHANGED = 1\n")
    try:
        assert "made by other code" in run(home, "pipeline", "collect", archive, *options, fails=True)
        said = run(home, "pipeline", "pack", "--out", tmp_path / "b.tar.gz", *options, fails=True)
        assert "tracked files differ from HEAD" in said
    finally:
        source.write_text(text)


def names_in(archive):
    with tarfile.open(archive) as members:
        return [member.name for member in members]


def test_caches_stay_here_unless_they_are_asked_for(home, away, tmp_path):
    assert not list(away.glob("runs/**/kept.safetensors")) and not list(away.glob("runs/**/features"))
    options = ["--configfile", "bundle.yaml", "--out", tmp_path / "a.tar"]
    run(home, "pipeline", "pack", "--stages", "--caches", *options)
    assert sum(name.endswith("kept.safetensors") for name in names_in(tmp_path / "a.tar")) == 1
    for given, times in ([], 0), (["--caches"], 1):
        run(home, "pipeline", "results", *given, *options)
        names = names_in(tmp_path / "a.tar")
        assert sum(name.endswith("kept.safetensors") for name in names) == times
        assert sum(name.endswith("weights.safetensors") for name in names) == 1


BOX = "{}f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 3 4 8 7\nf 1 3 7 5\nf 2 6 8 4\n"


def box(height):
    corners = ((x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, height))
    return BOX.format("".join("v {} {} {}\n".format(*corner) for corner in corners))


def test_meshes_are_prepared_where_the_bundle_is_and_their_results_count_here(home, tmp_path):
    (tmp_path / "boxes").mkdir()
    for number, split in enumerate(("train", "val", "test"), start=1):
        (tmp_path / "boxes" / f"{split}.obj").write_text(box(number))
    lines = ["id,path,split,category", *(f"{split},{split}.obj,{split},box" for split in ("train", "val", "test"))]
    (tmp_path / "boxes/index.csv").write_text("\n".join(lines) + "\n")
    source = f"{{source: folder, root: {tmp_path}/boxes, index: index.csv}}"
    given = tmp_path / "boxes.yaml"
    given.write_text(f"scale: smoke\ndataset: boxes\ndatasets: {{boxes: {source}}}\n")
    options = ["--configfile", given]

    assert "meshes 0.0" in run(home, "pipeline", "pack", "--meshes", "--out", tmp_path / "b.tar.xz", *options)
    said = run(home, "pipeline", "pack", "--meshes", "--stages", "--out", tmp_path / "c.tar", *options, fails=True)
    assert "--stages are of the shards that are here" in said
    run(home, "pipeline", "unpack", tmp_path / "b.tar.xz", "--into", tmp_path)
    there = tmp_path / "benchmark"
    target = "runs/boxes/smoke/generated/ground_truth/full/seed0/generate.jsonl"
    snakemake(there, "--", target)
    archive = tmp_path / "results.tar.gz"
    run(there, "pipeline", "results", "--configfile", "bundle.yaml", "--out", archive)

    run(home, "snakemake", "--cores", "2", "--configfile", given, "--", "describe")
    manifest = next((home / "runs/boxes/smoke").glob("prepared-*/manifest.json"))
    record = read_json(manifest)
    manifest.write_text(json.dumps(record | {"data_hash": "another CPU"}))
    assert "taken: 1" in run(home, "pipeline", "collect", archive, *options)
    assert (home / target).is_file()
    (tmp_path / "boxes/test.obj").write_text(box(4))
    assert "of other data" in run(home, "pipeline", "collect", archive, *options, fails=True)


def test_a_torn_file_is_refused_before_anything_is_taken(home, away, tmp_path):
    archive = tmp_path / "results.tar"
    run(away, "pipeline", "results", "--configfile", "bundle.yaml", "--out", archive)
    with tarfile.open(archive) as whole, tarfile.open(tmp_path / "torn.tar", "w") as torn:
        for member in whole:
            if not member.name.endswith("generate.jsonl"):
                torn.addfile(member, whole.extractfile(member))
    said = run(home, "pipeline", "collect", tmp_path / "torn.tar", "--configfile", "bundle.yaml", fails=True)
    assert "generate.jsonl is not the file that results.json describes" in said


def test_a_bundle_above_the_limit_is_refused_with_its_parts(home, tmp_path):
    options = ["--configfile", "bundle.yaml", "--limit", "0.001", "--out", tmp_path / "b.tar.gz"]
    said = run(home, "pipeline", "pack", *options, fails=True)
    assert "the limit is 0.001 MB" in said and "shards" in said
    assert not (tmp_path / "b.tar.gz").exists()


def test_data_that_are_not_prepared_are_one_sentence(home, tmp_path):
    said = run(home, "pipeline", "pack", "--scale", "smoke", "--out", tmp_path / "b.tar.gz", fails=True)
    assert said.startswith("error: there is no runs/procedural/smoke/prepared-")


def test_the_bundle_says_what_it_is_of(away):
    record = read_json(away / "bundle.json")
    assert (record["dataset"], record["scale"], record["dirty"]) == ("procedural", "smoke", False)
    assert any(name.endswith("train/00000.safetensors") for name in record["files"])
