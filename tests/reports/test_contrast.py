import pytest

from core.errors import UserError
from reports.contrast import parse


@pytest.mark.parametrize(
    ("text", "weights", "sign"),
    [
        ("a/x > b/y", {"a/x": 1, "b/y": -1}, 1),
        ("a/x<b/y", {"a/x": 1, "b/y": -1}, -1),
        ("a/x - b/y > a/z - b/w", {"a/x": 1, "b/y": -1, "a/z": -1, "b/w": 1}, 1),
        ("a/h - a/t < 0.5 a/q - 0.5 a/h", {"a/h": 1.5, "a/t": -1, "a/q": -0.5}, -1),
        ("2 * a/x > b/y + b/z", {"a/x": 2, "b/y": -1, "b/z": -1}, 1),
    ],
)
def test_left_minus_right(text, weights, sign):
    assert parse(text).weights == weights
    assert parse(text).sign == sign


@pytest.mark.parametrize(
    "text", ["a/x", "a/x > b/y > c/z", "a/x b/y > c/z", "a > b", "a/x >", "a/x > 0.3", "a/x > a/x"]
)
def test_what_is_no_inequality_between_settings_is_one_sentence(text):
    with pytest.raises(UserError) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_weights_that_do_not_cancel_are_refused():
    with pytest.raises(UserError, match="cancel"):
        parse("2 a/x > b/y")
