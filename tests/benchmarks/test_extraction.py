"""The extraction benchmark on tiny sizes: what it counts, and a decoder of one's own."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from benchmarks import dense, extraction_same, extraction_time, faithful, finished
from benchmarks.dense import Counted, dense_values
from benchmarks.measure import interleaved
from benchmarks.networks import params_of
from benchmarks.options import Options
from benchmarks.plain import hierarchical
from benchmarks.shapes import shapes
from core.errors import UserError
from methods.layers.coarse_to_fine import evaluate
from methods.layers.extraction import nodes, surface

SETTINGS = {"coarsest": 16, "change": 2.0}


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
    field = extraction_time.network_field(params_of("mar3d", options), shapes()[0], options)
    np.testing.assert_array_equal(field(points), shapes()[0].field(points))


def test_agreement_is_refused_where_a_part_is_lost(monkeypatch):
    speck = [shape for shape in shapes() if "speck" in shape.name]
    monkeypatch.setattr(extraction_same, "shapes", lambda: tuple(speck))
    row, _ = extraction_same.agreement(128, {"coarsest": 16, "change": 0.2})
    assert not row.equality.holds
    assert row.missed
    assert f"lost: 1 ({speck[0].name})" in row.limit
    assert "certified: 0 of 1" in row.limit
    assert extraction_same.agreement(64, {"coarsest": 32, "change": 30.0})[0].equality.holds


def test_a_folder_that_is_no_finished_run_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no finished mar3d/full/seed0: give --finished"):
        finished.finished(tmp_path)


def test_the_layers_that_are_timed_are_those_of_the_whole_grid():
    whole = np.concatenate(list(dense.layers(8)))
    np.testing.assert_array_equal(np.concatenate(list(dense.layers(8, 4))), whole.reshape(9, 81, 3)[::4].reshape(-1, 3))
    assert min(len(range(0, cells + 1, every)) for cells, every in extraction_time.DENSE_SHARE.items()) >= 5


def test_no_way_needs_fewer_nodes_than_the_ends_of_crossed_edges():
    values = -np.ones((6, 6, 6))
    values[2, 2, 2] = 1  # one node, and the six beside it
    assert dense.needed(values) == 7
    assert dense.needed(-values) == 7
    assert dense.needed(np.ones((6, 6, 6))) == 0
    values = -np.ones((6, 6, 6))
    values[:3] = 1  # one layer of cells: two of nodes
    assert dense.needed(values) == 2 * 36


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_an_extraction_asks_for_no_less_than_is_needed(chosen):
    shape = shapes()[chosen]
    counted = Counted(shape.field)
    evaluate(counted, 64, **SETTINGS)
    assert dense.dense_mesh(shape.name, 64)[1] <= counted.points


def test_a_field_with_a_clock_is_the_field():
    clocked = extraction_time.Clocked(shapes()[0].field)
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype(np.float32)
    np.testing.assert_array_equal(clocked(points), shapes()[0].field(points))
    assert clocked.seconds > 0


def test_the_query_target_is_judged_on_the_object_that_needs_most():
    mesh = surface(dense_values(shapes()[0].field, 16))
    found = extraction_same.Found()
    for asked in (1000, 4913, 500):
        found.add("ball", asked, 17**3, faithful.difference(mesh, mesh, 1e-4))
    (target,) = found.fewest(256)
    assert target.measured == 1.0
    assert not target.reached
    assert found.equality.holds
    found.add("ball", 1000, 17**3, faithful.difference(None, mesh, 1e-4))
    assert found.lost == ["ball"]
    assert not found.equality.holds


def test_the_decoder_as_described_gives_the_dense_mesh_of_a_thick_shape_and_asks_for_less():
    ring = shapes()[1]
    counted = Counted(ring.field)
    values = hierarchical.evaluate(counted, 64, smallest=16)
    assert counted.points < 65**3 / 2
    assert np.isnan(values).any()
    dense = dense_values(ring.field, 64)
    asked = ~np.isnan(values)
    np.testing.assert_array_equal(values[asked], dense[asked])
    assert faithful.difference(hierarchical.surface(values), surface(dense), 1e-4) == faithful.Difference(0, 0, 0.0)


BOX = np.ones((3, 3, 3), bool)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_the_decoder_as_described_grows_its_nodes_as_dilation_does(share):
    active = np.random.default_rng(1).random((7, 7, 7)) < share
    active[0, 3, 6] = True  # at the ends too
    np.testing.assert_array_equal(hierarchical.grown(active), binary_dilation(active, BOX))
    fine = np.zeros((13, 13, 13), bool)
    fine[::2, ::2, ::2] = active
    for by in (1, 2):
        np.testing.assert_array_equal(hierarchical.on_finer(active, by), binary_dilation(fine, BOX, iterations=by))


@pytest.mark.parametrize("chosen", [1, 2])
def test_the_decoder_as_described_asks_for_the_nodes_of_its_description(chosen):
    field, cells, band = shapes()[chosen].field, 64, hierarchical.BAND
    values = hierarchical.evaluate(field, 16, smallest=16)
    for level in (32, 64):  # each grid from the one before, as the file's head has it
        active = hierarchical._active(values, band)
        if level != cells:
            active = binary_dilation(active, BOX)
        mask = np.zeros((level + 1,) * 3, bool)
        mask[::2, ::2, ::2] = active
        index = np.argwhere(binary_dilation(mask, BOX, iterations=2 if level == cells else 1))
        values = np.full((level + 1,) * 3, np.nan, np.float32)
        values[tuple(index.T)] = field(nodes(index, level))
    np.testing.assert_array_equal(hierarchical.evaluate(field, cells, smallest=16), values)


def test_the_worst_shape_is_timed_and_has_the_target_too(monkeypatch):
    monkeypatch.setattr(extraction_time, "SECONDS", {32: 2.0})
    monkeypatch.setattr(extraction_time, "interleaved", lambda calls, **_: interleaved(calls, rounds=1, warm_up=0))
    rows = extraction_time.timed(32, SETTINGS, Options(quick=True))
    own = [row for row in rows if row.peer == "dense grid"]
    assert [name in row.what for name, row in zip(extraction_time.TIMED, own, strict=True)] == [True, True]
    assert all(target.value == 2.0 for row in own for target in row.targets)
    assert all(len(row.targets) == 1 for row in own)
    assert [row.what for row in rows if row.peer == extraction_same.PEER] == [own[0].what]
    # The target is hardest where the most is asked for.
    asked = {}
    for shape in shapes():
        counted = Counted(shape.field)
        evaluate(counted, 64, **SETTINGS)
        asked[shape.name] = counted.points
    assert max(asked, key=asked.get) == extraction_time.TIMED[1]


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
