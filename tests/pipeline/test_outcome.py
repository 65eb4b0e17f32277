import pytest

from pipeline import outcome
from pipeline.artefacts import Artefact

PAGE = "Table 2: dataset procedural, scale smoke, protocol v1. More.\n\n| setting |\n"
TABLE2 = Artefact("table2", ("table2.csv", "table2.md"))
CLAIMS = Artefact("claims", ("claims.csv", "claims.md"))


def smoke(name):
    return "dataset procedural, scale smoke, protocol v1"


def meshes(name):
    return "dataset meshes, scale smoke, protocol v1"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The tables lie under `reports/` of the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    return tmp_path / "reports"


def write(folder, *statuses, name="table2", header="method,variant", page=PAGE):
    start = "m,v{}" if header == "method,variant" else "claim {}"
    lines = [f"{start.format(i)},{status}" for i, status in enumerate(statuses)]
    (folder / f"{name}.csv").write_text("\n".join([f"{header},status", *lines]) + "\n")
    (folder / f"{name}.md").write_text(page)


def test_the_table_is_printed(folder, capsys):
    write(folder, "ok", '"ok, 1 failed: x"')
    outcome.succeeded([TABLE2], smoke)
    assert capsys.readouterr().err == f"\n{PAGE}\nwritten to reports/table2.csv\n"


def test_a_failed_method_shows_in_the_exit_status(folder):
    write(folder, "ok", "failed: boom")
    with pytest.raises(SystemExit, match="m/v1: failed: boom"):
        outcome.succeeded([TABLE2], smoke)


def test_it_shows_there_as_well_when_nothing_was_to_be_done(folder, capsys):
    write(folder, "ok", "failed: boom")
    with pytest.raises(SystemExit) as stop:
        outcome.status([TABLE2], smoke)
    assert stop.value.code == "the table is complete but for: m/v1: failed: boom"  # a text exits with status 1
    outcome.status([TABLE2], meshes)
    write(folder, "ok", "ok")
    outcome.status([TABLE2], smoke)
    assert capsys.readouterr().err == ""


def test_what_was_not_to_be_run_is_no_failure(folder, capsys):
    write(folder, "ok", "not run: no rows of dit/cascade", name="claims", header="claim", page=PAGE)
    outcome.succeeded([CLAIMS], smoke)  # and no SystemExit
    assert PAGE.splitlines()[0] in capsys.readouterr().err


def test_of_several_tables_all_are_printed_before_the_failures_are_named(folder, capsys):
    write(folder, "failed: boom")
    write(folder, "failed: m/v0: boom", name="claims", header="claim", page=PAGE.replace("Table 2", "Claims"))
    with pytest.raises(SystemExit) as stop:
        outcome.succeeded([TABLE2, CLAIMS], smoke)
    assert str(stop.value) == "the table is complete but for: m/v0: failed: boom; claim 0: failed: m/v0: boom"
    printed = capsys.readouterr().err
    assert printed.index("Table 2") < printed.index("Claims")


def test_a_table_of_another_run_is_not_shown(folder, capsys):
    outcome.succeeded([TABLE2], smoke)
    write(folder, "failed: boom")
    outcome.succeeded([TABLE2], meshes)
    assert capsys.readouterr().err == ""


def test_a_table_of_a_protocol_of_its_own_is_known_by_it(folder, capsys):
    write(folder, "ok")
    write(folder, "ok", name="claims", header="claim", page=PAGE.replace("v1", "vecset"))
    outcome.succeeded([TABLE2, CLAIMS], lambda name: smoke(name).replace("v1", "vecset" if name == "claims" else "v1"))
    assert capsys.readouterr().err.count("written to") == 2


def test_a_figure_is_not_read_as_a_table(folder, capsys):
    (folder / "figure3.pdf").write_bytes(b"%PDF")
    outcome.succeeded([Artefact("figure3", ("figure3.pdf", "figure3.png"))], smoke)
    assert capsys.readouterr().err == ""


def test_a_failed_run_names_an_older_table_as_old(folder, capsys):
    outcome.failed([TABLE2, CLAIMS])
    assert "earlier run" not in capsys.readouterr().err
    write(folder, "ok")
    outcome.failed([TABLE2, CLAIMS])
    assert "reports/table2.csv is of an earlier run and does not show it." in capsys.readouterr().err
