import pytest

from core import identity


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    identity._file_digest.cache_clear()
    yield tmp_path
    identity._file_digest.cache_clear()


def digest(folder, text):
    (folder / "a.py").write_text(text)
    identity._file_digest.cache_clear()
    return identity.source_hash("a.py")


def test_comments_docstrings_and_formatting_do_not_count(sources):
    plain = digest(sources, "def f(x):\n    return x + 1\n")
    assert plain == digest(sources, '"""Module."""\n\ndef f( x ):  # why\n    """Add one."""\n    return (x + 1)\n')
    assert digest(sources, "BANK = 1\n") == digest(sources, 'BANK = 1\n"""Below an attribute."""\n')


def test_code_and_strings_that_are_not_docstrings_count(sources):
    seen = {digest(sources, text) for text in ("x = 1", "x = 2", 'x = "1"', "y = 1")}
    assert len(seen) == 4


def test_a_file_that_only_has_a_docstring_has_a_hash(sources):
    assert digest(sources, '"""Nothing else."""\n') == digest(sources, "")


def test_a_folder_counts_every_python_file_and_its_name(sources):
    (sources / "room").mkdir()
    (sources / "room" / "b.py").write_text("x = 1")
    before = identity.source_hash("room")
    (sources / "room" / "notes.md").write_text("not code")
    assert identity.source_hash("room") == before
    (sources / "room" / "b.py").rename(sources / "room" / "c.py")
    assert identity.source_hash("room") != before


def test_the_order_of_keys_does_not_change_a_key_but_values_do():
    assert identity.params_key({"a": 1, "b": [2]}) == identity.params_key({"b": [2], "a": 1})
    assert identity.params_key({"a": 1}) != identity.params_key({"a": 1.5})
    assert len(identity.params_key({}, 6)) == 6
