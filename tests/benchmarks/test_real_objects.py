"""Real objects on tiny sizes: a decoder of one's own, and who shares the work."""

import os
import pickle
from functools import partial

import numpy as np
import pytest
import trimesh

from benchmarks import extraction_real, finished, real_objects
from benchmarks.networks import params_of, randomised
from benchmarks.options import Options
from core.files import write_json
from methods.mar3d.latents import save_vae
from methods.mar3d.pyramid_vae import build_vae

SETTINGS = {"coarsest": 16, "change": 2.0}


@pytest.fixture
def options(prepared, tmp_path):
    """Of a finished run with a decoder of random weights."""
    run = tmp_path / "shapes" / "smoke"
    (run / "generated" / finished.CEILING).mkdir(parents=True)
    record = {"seed": 0, "scale": "smoke", "stages": {"vae": "mar3d.vae-1"}}
    write_json(run / "generated" / finished.CEILING / "manifest.json", record)
    write_json(run / "prepared-1" / "manifest.json", {"splits": {}})
    for split in ("train", "val", "test"):
        (run / "prepared-1" / split).symlink_to(prepared / split, target_is_directory=True)
    options = Options(quick=True, finished=run)
    params = params_of("mar3d", options)
    vae = randomised(lambda: build_vae(params["vae"], params["latent"]), "test", device="cpu")
    save_vae(run / "stages/mar3d.vae-1/seed0", vae, {}, {"vae": params["vae"], "latent": params["latent"]})
    return options


def test_a_decoder_of_ones_own_is_compared_on_prepared_objects(options):
    compared, counted = extraction_real.real({**SETTINGS, "change": 100.0}, options)
    assert compared.equality.holds
    for row in (compared, counted):
        assert row.cost.n == 2
        # Random weights give logits that are all within the change: every node is asked for, once.
        assert row.cost.median == 33**3
        assert row.ratio.median == 1.0
        assert "a decoder fitted to shapes at smoke, 2 objects" in row.what
        assert "test-" in row.limit or "val-" in row.limit


def test_the_work_can_be_sent_to_another_process(options):
    work = partial(real_objects.Decoder.of(options).extract, cells=32, settings=SETTINGS, compare=True)
    samples = real_objects.unseen(options)[:1]
    sent, there = pickle.loads(pickle.dumps((work, samples)))  # as a pool does; no file is read this way
    assert [sent(sample) for sample in there] == real_objects.shared(work, samples, options)
    assert real_objects.shared(work, [], Options()) == []


def test_an_object_that_loses_its_surface_is_told(options, monkeypatch):
    def nothing_found(asked, cells, **_):
        asked(np.zeros((1, 3), np.float32))
        return np.full((cells + 1,) * 3, -1.0, np.float32)

    monkeypatch.setattr(real_objects, "evaluate", nothing_found)
    compared, _ = extraction_real.real(SETTINGS, options)
    assert not compared.equality.holds
    assert "2 meshes differ" in compared.limit


def test_the_thinnest_objects_come_first():
    from data.sources.procedural import make

    class Prepared:
        def __init__(self, object):
            self.object = object

        def mesh(self):
            mesh = make(self.object)
            return mesh.vertices.astype(np.float32), mesh.faces

    walls = [real_objects.wall(Prepared(f"test-{family}-00000")) for family in ("table", "csg")]
    assert all(0 < wall < 1 for wall in walls)
    ball = trimesh.creation.icosphere(subdivisions=2)
    flat = type("Ball", (), {"object": "ball", "mesh": lambda self: (ball.vertices, ball.faces)})()
    assert real_objects.wall(flat) > max(walls)


def test_without_a_decoder_of_ones_own_the_row_says_so():
    assert "--finished" in extraction_real.real(SETTINGS, Options())[0].peer_status


class Written:
    """An object of which there is no more than its name."""

    def __init__(self, name):
        self.object = name


def by_whom(sample):
    """Stands for the work: says which process did it."""
    return real_objects.Extracted(sample.object, os.getpid(), 0)


def test_on_a_cpu_objects_are_shared_by_processes_and_come_back_in_order(monkeypatch):
    monkeypatch.setattr(real_objects.machine, "cores", lambda: 2)
    samples = [Written(name) for name in ("c", "a", "b")]
    found = real_objects.shared(by_whom, samples, Options())
    assert [each.name for each in found] == ["c", "a", "b"]
    assert os.getpid() not in {each.queries for each in found}
    for own in (Options(quick=True), Options(device="cuda")):
        assert {each.queries for each in real_objects.shared(by_whom, samples, own)} == {os.getpid()}
