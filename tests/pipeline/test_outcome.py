import pytest

from pipeline import outcome

PAGE = "Table 2: dataset procedural, scale smoke, protocol v1. More.\n\n| setting |\n"


def write(folder, *statuses):
    lines = [f"m,v{i},{status}" for i, status in enumerate(statuses)]
    (folder / "table2.csv").write_text("\n".join(["method,variant,status", *lines]) + "\n")
    (folder / "table2.md").write_text(PAGE)
    return folder / "table2.csv"


def test_the_table_is_printed(tmp_path, capsys):
    outcome.succeeded(write(tmp_path, "ok", '"ok, 1 failed: x"'), "dataset procedural, scale smoke, protocol v1")
    assert PAGE in capsys.readouterr().err


def test_a_failed_method_shows_in_the_exit_status(tmp_path):
    with pytest.raises(SystemExit, match="m/v1: failed: boom"):
        outcome.succeeded(write(tmp_path, "ok", "failed: boom"), "dataset procedural, scale smoke, protocol v1")


def test_a_table_of_another_run_is_not_shown(tmp_path, capsys):
    outcome.succeeded(write(tmp_path, "failed: boom"), "dataset meshes, scale smoke, protocol v1")
    outcome.succeeded(tmp_path / "none.csv", "")
    assert capsys.readouterr().err == ""


def test_a_failed_run_names_an_older_table_as_old(tmp_path, capsys):
    outcome.failed(tmp_path / "table2.csv")
    assert "earlier run" not in capsys.readouterr().err
    outcome.failed(write(tmp_path, "ok"))
    assert "earlier run" in capsys.readouterr().err
