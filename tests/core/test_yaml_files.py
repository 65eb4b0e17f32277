"""Strict YAML: what plain YAML would let pass is one sentence, and merging leaves its arguments alone."""

import re

import pytest

from core.errors import UserError
from core.yaml_files import laid_over, merged, read_yaml


def test_a_key_given_twice_is_an_error(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("a: 1\nb:\n  c: 1\n  c: 2\n")
    with pytest.raises(UserError, match=r"line 4: the key 'c' stands twice"):
        read_yaml(path)


def test_broken_yaml_names_file_and_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: 1\nb: [1,\n")
    with pytest.raises(UserError, match=r"broken.yaml, line"):
        read_yaml(path)


@pytest.mark.parametrize(("text", "number"), [("1e-4", "1.0e-4"), ("2.5e3", "2.5e+3")])
def test_a_number_that_yaml_takes_for_text_is_an_error(tmp_path, text, number):
    path = tmp_path / "text.yaml"
    path.write_text(f"a:\n  - b: {text}\n")
    with pytest.raises(UserError, match=rf"text.yaml: a\.0\.b is text to YAML; write {re.escape(number)}$"):
        read_yaml(path)


def test_merging_leaves_its_arguments_alone():
    base, difference = {"a": {"x": [1]}, "free": {}}, {"a": {"x": [2]}, "free": {"any": 1}}
    assert merged(base, difference, "test") == {"a": {"x": [2]}, "free": {"any": 1}}
    assert base == {"a": {"x": [1]}, "free": {}}


def test_laying_over_goes_as_deep_as_there_are_mappings_and_shares_nothing():
    base, difference = {"a": {"b": {"x": 1, "y": [1]}}, "c": 1}, {"a": {"b": {"x": 2}, "new": {"z": []}}, "c": {"d": 3}}
    over = laid_over(base, difference)
    assert over == {"a": {"b": {"x": 2, "y": [1]}, "new": {"z": []}}, "c": {"d": 3}}
    over["a"]["b"]["y"].append(2)
    over["a"]["new"]["z"].append(2)
    assert base == {"a": {"b": {"x": 1, "y": [1]}}, "c": 1}
    assert difference == {"a": {"b": {"x": 2}, "new": {"z": []}}, "c": {"d": 3}}
