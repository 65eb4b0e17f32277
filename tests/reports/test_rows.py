import numpy as np
import pytest

from core.errors import UserError
from evaluation.rows import write as write_rows
from reports import rows
from tests.reports.conftest import make_rows


def test_views_of_an_object_are_averaged_and_seeds_are_columns(write):
    first = make_rows("m", fscore=[0.2, 0.4])
    frames = [first, make_rows("m", fscore=[0.4, 0.8]).assign(view=1)]
    frames += [frame.assign(seed=1) for frame in frames]
    objects, values = rows.matrix(rows.read(write(*frames)), "fscore_0.1", [0, 1])
    assert objects == ["o00", "o01"]
    np.testing.assert_allclose(values, [[0.3, 0.3], [0.6, 0.6]])


def test_an_object_without_one_of_the_seeds_is_an_error(write):
    table = rows.read(write(make_rows("m", fscore=[0.2, 0.4]), make_rows("m", fscore=[0.2], seed=1)))
    with pytest.raises(UserError, match="o01"):
        rows.matrix(table, "fscore_0.1", [0, 1])


def test_a_row_that_stands_twice_is_an_error(write):
    with pytest.raises(UserError, match="twice"):
        rows.read(write(make_rows("m", fscore=[0.5]), make_rows("m", fscore=[0.5])))


def test_what_is_no_parquet_file_is_one_sentence(tmp_path, write):
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(UserError, match="delete it"):
        rows.read([tmp_path / "bad.parquet"])
    with pytest.raises(UserError, match="lacks the column"):
        rows.read(write(make_rows("m", fscore=[0.5]).drop(columns="status")))


def test_of_a_file_of_several_protocols_one_is_taken_and_of_another_file_nothing_is_hidden(tmp_path, write):
    both = [make_rows("m", fscore=[0.5], protocol=name) for name in ("v1", "vecset")]
    recorded = tmp_path / "rows.csv"
    rows.read(write(*both)).to_csv(recorded, index=False)
    assert set(rows.read([recorded])["protocol"]) == {"v1", "vecset"}
    taken = rows.read([recorded], "vecset")
    assert set(taken["protocol"]) == {"vecset"} and "cd_avg" not in taken
    (wrong,) = write(make_rows("n", fscore=[0.5], protocol="triposr"))
    with pytest.raises(UserError, match="one table is of one protocol, but the rows hold triposr, vecset"):
        rows.one(rows.read([recorded, wrong], "vecset"), "protocol")


def test_the_hash_sees_metrics_and_not_seconds(write):
    one, two = (rows.read(write(make_rows("m", fscore=[0.5, 0.6]))) for _ in range(2))
    assert not one["seconds_sample"].equals(two["seconds_sample"])
    assert rows.hash_of(one, ["fscore_0.1"]) == rows.hash_of(two, ["fscore_0.1"])
    two.loc[0, "fscore_0.1"] += 1e-8
    assert rows.hash_of(one, ["fscore_0.1"]) != rows.hash_of(two, ["fscore_0.1"])


def test_files_that_the_cpu_path_did_not_score_are_named_by_what_did(tmp_path, write):
    (plain,), other, kept = write(make_rows("m", fscore=[0.5])), tmp_path / "other.parquet", tmp_path / "rows.csv"
    write_rows(make_rows("n", fscore=[0.5]), other, backend="kaolin 0.18.0 on cuda, sampler cpu")
    make_rows("o", fscore=[0.5]).to_csv(kept, index=False)
    assert rows.backends([plain, kept]) == {}
    assert rows.backends([plain, other, kept]) == {"kaolin 0.18.0 on cuda, sampler cpu": [str(other)]}
