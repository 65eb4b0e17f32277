"""With a bucket, `runs` is a link to Snakemake's local copies; without one nothing is touched."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from core.errors import UserError
from pipeline import bucket
from pipeline.artefacts import ARTEFACTS


def workflow(local, provider="s3"):
    """Of Snakemake's workflow, what is looked at: settings, and where it keeps the local copy of a query."""

    def file(query):
        return SimpleNamespace(local_path=lambda: local / query.replace("s3://", "s3/"))

    settings = SimpleNamespace(default_storage_provider=provider, default_storage_prefix="s3://bucket/here/")
    registry = SimpleNamespace(default_storage_provider=SimpleNamespace(object=file))
    return SimpleNamespace(storage_settings=settings, storage_registry=registry)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    return tmp_path


def test_a_command_writes_where_snakemake_expects_the_declared_file(folder):
    for volume in ("one", "two"):  # the second: the same checkout with another volume
        bucket.link_runs(workflow(folder / volume))
        Path("runs/stages").mkdir()
        assert (folder / volume / "s3/bucket/here/runs/stages").is_dir()


def test_results_of_this_machine_are_not_hidden(folder):
    Path("runs").mkdir()
    with pytest.raises(UserError, match=r"runs holds results of runs on this machine.*move it away"):
        bucket.link_runs(workflow(folder / "volume"))


def test_without_a_bucket_nothing_is_linked_or_copied(folder):
    plain = workflow(folder / "volume", provider=None)
    bucket.link_runs(plain)
    bucket.bring_home(plain, ["reports/table2.csv"])
    assert list(folder.iterdir()) == [folder / "checkout"] and not list(Path().iterdir())


def test_tables_are_brought_to_where_they_are_looked_for(folder):
    copy = folder / "volume/s3/bucket/here/reports/table2.csv"
    copy.parent.mkdir(parents=True)
    copy.write_text("method\n")
    bucket.bring_home(workflow(folder / "volume"), ["reports/table2.csv", "reports/figure3.pdf"])
    assert [str(path) for path in Path().rglob("*.*")] == ["reports/table2.csv"]
    assert Path("reports/table2.csv").read_text() == "method\n"


def test_files_that_pods_do_not_see_are_one_sentence(folder):
    dag = SimpleNamespace(source={"source": "folder"}, dataset="mine")
    with pytest.raises(UserError, match="the dataset 'mine' is a folder of this machine, which pods do not see"):
        bucket.check(workflow(folder), dag)
    bucket.check(workflow(folder, provider=None), dag)
    plain = {name: {} for name in ARTEFACTS}
    made = SimpleNamespace(source={"source": "procedural"}, dataset="procedural", config=plain)
    bucket.check(workflow(folder), made)
    made.config = plain | {"table1": {"rows": ["runs/gso/rows.parquet"]}}
    with pytest.raises(UserError, match=r"table1\.rows names files of this machine"):
        bucket.check(workflow(folder), made)
