import pytest

from core.files import atomic_path, read_json, write_json, write_text


def test_a_block_that_raises_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_name_appears_only_when_the_block_has_ended(tmp_path):
    path = tmp_path / "a.safetensors"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"x")
        assert not path.exists()
        assert temporary.suffix == path.suffix  # savers that look at the suffix must not be misled
    assert path.read_bytes() == b"x"


def test_json_round_trip_keeps_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [None, "ü"]})
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]
