"""Where pretrained weights are looked for, and the one sentence where they are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from core.errors import UserError
from core.identity import ROOT
from methods.layers import pretrained
from methods.layers.pretrained import Pretrained, require, wanted
from methods.registry import load_methods, resolve

CLIP, DINO = "openai/clip-vit-large-patch14", "facebook/dinov2-large"


def ask(*arguments, **environment):
    """The command line without network, cache or any model but those of `environment`."""
    alone = {k: v for k, v in os.environ.items() if k != "PRETRAINED_MODELS"}
    command = [sys.executable, "-m", "methods", "weights", *arguments]
    alone |= {"HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)


def test_without_weights_one_sentence_names_what_to_put_where(tmp_path):
    answer = ask("--scale", "paper", HF_HOME=str(tmp_path))
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    for part in (CLIP, DINO, "PRETRAINED_MODELS=FOLDER", f"FOLDER/{CLIP}/", "config.json and model.safetensors"):
        assert part in line
    assert "python -m methods weights --scale paper --to FOLDER" in line and "name: scratch" in line


def test_with_weights_their_places_and_hashes_are_recorded(pretrained_models, tmp_path):
    out = tmp_path / "weights.json"
    answer = ask("--scale", "paper", "--out", str(out), PRETRAINED_MODELS=str(pretrained_models), HF_HOME=str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    record = json.loads(out.read_text())
    assert {name: entry["folder"] for name, entry in record.items()} == {
        name: str(pretrained_models / name) for name in (CLIP, DINO)
    }
    assert all(len(entry["sha256"]) == 64 for entry in record.values())


def test_asking_needs_no_torch(tmp_path):
    code = "import sys, methods.layers.pretrained, methods.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_the_methods_want():
    for scale in ("smoke", "cpu", "gpu"):
        assert not any(wanted(resolve(m.name, v, scale).params) for m in load_methods().values() for v in m.variants)
    for setting in (("mar3d", "full"), ("mar3d", "no_pyramid"), ("dit", "flow")):
        assert [model.model for model in wanted(resolve(*setting, "paper").params)] == [CLIP, DINO]
    assert wanted(resolve("mean_shape", "full", "paper").params) == []
    assert wanted({"image_encoder": None}) == []


def test_a_path_in_the_config_goes_before_the_folder_of_models(pretrained_models, tmp_path, monkeypatch):
    monkeypatch.setenv("PRETRAINED_MODELS", str(pretrained_models))
    own = tmp_path / "mine"
    shutil.copytree(pretrained_models / CLIP, own)
    named, placed = Pretrained(CLIP, "main"), Pretrained(str(own), "main")
    assert require([named, placed]) == {named: pretrained_models / CLIP, placed: own}


def test_pickled_weights_are_not_weights(pretrained_models, tmp_path, monkeypatch):
    monkeypatch.setenv("PRETRAINED_MODELS", str(tmp_path))
    shutil.copytree(pretrained_models / CLIP, tmp_path / CLIP)
    (tmp_path / CLIP / "model.safetensors").rename(tmp_path / CLIP / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"lacks model\.safetensors \(pickled"):
        require([Pretrained(CLIP, "main")])


@pytest.fixture
def hub(monkeypatch, pretrained_models, tmp_path):
    """A hub that fetches from a folder and notes what it was asked for."""
    import huggingface_hub

    asked: list[tuple[str, str, bool]] = []

    def snapshot_download(model, *, revision, allow_patterns, local_dir, local_files_only):
        asked.append((model, revision, local_files_only))
        if local_files_only or not hub_is_there[0]:
            raise ConnectionError("no network\nmore lines")
        folder = local_dir or tmp_path / "hub" / model
        shutil.copytree(pretrained_models / model, folder, dirs_exist_ok=True)
        return str(folder)

    hub_is_there = [True]
    monkeypatch.delenv("PRETRAINED_MODELS", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked, hub_is_there


def test_the_cache_is_asked_before_the_network(hub, tmp_path):
    model = Pretrained(CLIP, "32bd")
    assert require([model]) == {model: tmp_path / "hub" / CLIP}
    assert hub[0] == [(CLIP, "32bd", True), (CLIP, "32bd", False)]


def test_without_network_it_is_waited_for_once(hub):
    asked, there = hub
    there[0] = False
    with pytest.raises(UserError, match=r"ConnectionError: no network\)"):
        require([Pretrained(CLIP, "a"), Pretrained(DINO, "b")])
    assert asked == [(CLIP, "a", True), (CLIP, "a", False), (DINO, "b", True)]


def test_copies_are_laid_out_as_they_are_looked_for(hub, tmp_path, monkeypatch):
    models = [Pretrained(CLIP, "a"), Pretrained(DINO, "b")]
    pretrained.download(models, tmp_path / "to")
    monkeypatch.setenv("PRETRAINED_MODELS", str(tmp_path / "to"))
    hub[1][0] = False
    assert list(require(models).values()) == [tmp_path / "to" / CLIP, tmp_path / "to" / DINO]


def test_no_jobs_but_those_of_paper_scale_wait_for_weights():
    from pipeline.config import load
    from pipeline.dag import Dag

    expected = {"smoke": [], "paper": ["runs/procedural/paper/weights.json"]}
    for scale, files in expected.items():
        dag = Dag(load({"scale": scale, "dataset": "procedural"}))
        setting = type("Wildcards", (), {"method": "mar3d", "variant": "full"})
        assert dag.weights_of_generate(setting) == files
        for name, stage in dag.stages.items():
            wildcards = type("Wildcards", (), {"stage": name})
            assert dag.weights_of_fit(wildcards) == (files if stage.owner in ("mar3d", "dit") else [])
