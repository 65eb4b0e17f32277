"""The extraction benchmark on tiny sizes: what it counts, and a decoder of one's own."""

import numpy as np
import pytest
import trimesh

from benchmarks import extraction, faithful, finished
from benchmarks.extraction import Counted, dense_values, exact
from benchmarks.networks import params_of, randomised
from benchmarks.options import Options
from benchmarks.plain import hierarchical
from benchmarks.shapes import shapes
from core.errors import UserError
from core.files import write_json
from methods.layers.extraction import evaluate, surface
from methods.mar3d.latents import save_vae
from methods.mar3d.pyramid_vae import build_vae

SETTINGS = {"coarsest": 16, "band": 3.0}


def test_the_dense_grid_is_what_evaluate_gives_when_nothing_is_refined():
    field = shapes()[1].field
    np.testing.assert_array_equal(dense_values(field, 20), evaluate(field, 20, coarsest=20))


def test_every_point_that_is_asked_for_is_counted():
    counted = Counted(shapes()[0].field)
    evaluate(counted, 32, **SETTINGS)
    whole = Counted(shapes()[0].field)
    evaluate(whole, 32, coarsest=32)
    assert whole.points == 33**3
    assert 17**3 < counted.points < whole.points


def test_a_field_at_the_networks_cost_has_the_values_of_the_shape():
    options = Options(quick=True)
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
    field = extraction.network_field(params_of("mar3d", options), shapes()[0], options)
    np.testing.assert_array_equal(field(points), shapes()[0].field(points))


def test_agreement_is_refused_where_a_part_is_lost(monkeypatch):
    speck = [shape for shape in shapes() if "speck" in shape.name]
    monkeypatch.setattr(extraction, "shapes", lambda: tuple(speck))
    monkeypatch.setattr(extraction, "tried_bands", lambda *_: "")
    row, _ = extraction.agreement(128, {"coarsest": 16, "band": 0.5})
    assert not row.equality.holds
    assert f"lost: 1 ({speck[0].name})" in row.limit
    assert "certified: 0 of 1" in row.limit
    assert extraction.agreement(64, {"coarsest": 32, "band": 30.0})[0].equality.holds


def test_a_decoder_of_ones_own_is_compared_on_prepared_objects(prepared, tmp_path):
    run = tmp_path / "run"
    (run / "generated" / finished.FULL).mkdir(parents=True)
    record = {"seed": 0, "scale": "smoke", "stages": {"vae": "mar3d.vae-1"}}
    write_json(run / "generated" / finished.FULL / "manifest.json", record)
    write_json(run / "prepared-1" / "manifest.json", {"splits": {}})
    for split in ("train", "val", "test"):
        (run / "prepared-1" / split).symlink_to(prepared / split, target_is_directory=True)
    options = Options(quick=True, finished=run)
    params = params_of("mar3d", options)
    vae = randomised(lambda: build_vae(params["vae"], params["latent"]), "test", device="cpu")
    save_vae(run / "stages/mar3d.vae-1/seed0", vae, {}, {"vae": params["vae"], "latent": params["latent"]})
    (row,) = extraction._real(SETTINGS, options)
    assert row.cost.n == 2
    # Random weights give logits that are all within the band: every node of both grids is asked for.
    assert row.cost.median == pytest.approx(33**3 / (33**3 + 17**3))
    assert "2 objects" in row.limit


def test_a_folder_that_is_no_finished_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no finished mar3d/full: give --finished"):
        finished.finished(tmp_path)


def test_the_thinnest_objects_come_first():
    from data.sources.procedural import make

    class Prepared:
        def __init__(self, object):
            self.object = object

        def mesh(self):
            mesh = make(self.object)
            return mesh.vertices.astype(np.float32), mesh.faces

    walls = [extraction.wall(Prepared(f"test-{family}-00000")) for family in ("table", "csg")]
    assert all(0 < wall < 1 for wall in walls)
    ball = trimesh.creation.icosphere(subdivisions=2)
    flat = type("Ball", (), {"object": "ball", "mesh": lambda self: (ball.vertices, ball.faces)})()
    assert extraction.wall(flat) > max(walls)


def test_without_a_decoder_of_ones_own_the_row_says_so():
    assert "--finished" in extraction._real(SETTINGS, Options())[0].peer_status


def test_a_count_does_not_vary():
    assert exact(5) == extraction.Spread(5.0, 5.0, 5.0, 1)


@pytest.mark.parametrize("cells, every", extraction.DENSE_SHARE.items())
def test_the_slabs_that_are_timed_are_whole_layers(cells, every):
    slab = next(extraction.layers(cells, 1))
    assert len(slab) == (cells + 1) ** 2
    assert len(range(0, cells + 1, every)) >= 5


def test_the_decoder_as_described_gives_the_dense_mesh_of_a_thick_shape_and_asks_for_less():
    ring = shapes()[1]
    counted = Counted(ring.field)
    values = hierarchical.evaluate(counted, 64, band=3.0, smallest=16)
    assert counted.points < 65**3 / 2
    assert np.isnan(values).any()
    dense = dense_values(ring.field, 64)
    asked = ~np.isnan(values)
    np.testing.assert_array_equal(values[asked], dense[asked])
    assert faithful.difference(hierarchical.surface(values), surface(dense), 1e-4) == faithful.Difference(0, 0, 0.0)


def test_faces_between_a_number_and_nothing_are_left_out():
    values = np.full((9, 9, 9), np.nan, np.float32)
    values[2:7, 2:7, 2:7] = -1
    values[4, 4, 4] = 1
    vertices, faces = hierarchical.surface(values)
    assert np.isfinite(vertices).all()
    assert len(faces) == 8
    values[3:6, 3:6, 3:6] = 1  # up to what is known: nothing is between
    values[values < 0] = np.nan
    assert hierarchical.surface(values) is None
