"""What `python -m methods list` and `show` print; what every command sets before torch is loaded."""

import os
import sys

import pytest

from methods.__main__ import list_methods, main, show_method
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


@pytest.mark.parametrize("given", [{}, {"PYTORCH_CUDA_ALLOC_CONF": "x", "TORCH_CUDNN_SDPA_DEPRIORITIZED": "0"}])
def test_every_command_says_what_a_gpu_needs_before_torch_is_loaded(monkeypatch, given):
    usual = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1"}
    kept = {name: value for name, value in os.environ.items() if name not in (*usual, "PYTORCH_CUDA_ALLOC_CONF")}
    monkeypatch.setattr(os, "environ", kept | given)
    monkeypatch.setattr(sys, "argv", ["methods", "list"])
    main()
    assert {name: value for name, value in os.environ.items() if kept.get(name) != value} == (given or usual)
