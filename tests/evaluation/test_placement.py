"""The transform in a row leads a prediction back onto its ground truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from core.errors import UserError
from evaluation import load, placement, protocol
from evaluation.metrics import Transform
from evaluation.score import score


@pytest.mark.parametrize("normalise", ["longest_side", "truth", "none"])
def test_a_turned_prediction_is_put_back(chiral, still, normalise):
    turn = Rotation.from_euler("y", 37, degrees=True).as_matrix()
    moved = load.Triangles(chiral.vertices @ turn.T, chiral.faces, chiral.watertight, chiral.components)
    how = replace(still, normalise=normalise)
    row = score(moved, chiral, how)
    back = placement.onto_truth(moved.vertices, chiral.vertices, row, how)
    # longest_side: a turned box has another longest side, so that prediction comes back a little smaller or larger
    assert np.abs(back - chiral.vertices).max() < (0.25 if normalise == "longest_side" else 0.03)
    assert np.abs(moved.vertices - chiral.vertices).max() > 0.3


def test_columns_say_the_whole_transform():
    rng = np.random.default_rng(0)
    turn = Rotation.random(rng=rng).as_matrix()
    given = Transform(turn, np.array([0.1, -0.2, 0.3]), 1.1)
    row = placement.columns(given) | {"align_scale": 1.1}
    points = rng.normal(size=(5, 3))
    assert placement.transform_of(row).apply(points) == pytest.approx(given.apply(points))
    assert np.linalg.norm([row[name] for name in placement.COLUMNS[:3]]) == pytest.approx(given.degrees)


def test_rows_without_a_transform_are_refused():
    with pytest.raises(UserError, match=r"lack the column 'rotation_x'.*score them again"):
        placement.transform_of({"align_scale": 1.0})


def test_a_prediction_that_was_not_turned_keeps_its_shape_and_takes_the_place_of_the_truth():
    v1 = protocol.load("v1")
    truth = np.array([[0.0, 0, 0], [1.9, 1, 1]])
    row = placement.columns(Transform.identity()) | {"align_scale": 1.0}
    assert placement.onto_truth(truth * 0.5 + 7, truth, row, v1) == pytest.approx(truth)
