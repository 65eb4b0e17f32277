"""What `python -m methods list` and `show` print; what every command sets before torch is loaded."""

import os

import pytest

from methods.__main__ import list_methods, set_allocator, show_method
from methods.registry import load_methods


def test_the_list_is_a_table_with_one_line_for_each_method(capsys):
    list_methods()
    header, *lines = capsys.readouterr().out.splitlines()
    methods = load_methods().values()
    assert len(lines) == len(methods)
    begins = [header.index(name) for name in ("method", "kind", "variants", "stages", "summary")]
    for line, method in zip(lines, methods, strict=True):
        ends = [*begins[1:], None]
        cells = [line[begin:end].strip() for begin, end in zip(begins, ends, strict=True)]
        assert [cells[0], cells[1], int(cells[2]), cells[4]] == [
            method.name, method.kind, len(method.variants), method.summary,
        ]  # fmt: skip
        assert all(stage in cells[3] for stage in method.stages)


def test_a_method_is_shown_with_all_its_variants(capsys):
    method = load_methods()["mar3d"]
    show_method("mar3d", "no_pyramid", "smoke")
    shown = capsys.readouterr().out.splitlines()
    assert f"variants: {' '.join(method.variants)}" in shown
    assert shown[0].startswith("MAR-3D (mar3d/no_pyramid, scale smoke): ")


@pytest.mark.parametrize("given", [None, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_a_gpus_memory_grows_in_place_unless_the_user_says_otherwise(monkeypatch, given):
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(given, "backend:cudaMallocAsync")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    set_allocator()
    expected = {given: "backend:cudaMallocAsync"} if given else {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert {name: value for name, value in os.environ.items() if name.endswith("ALLOC_CONF")} == expected
