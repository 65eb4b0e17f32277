import sys
from types import SimpleNamespace

import pytest

from core.errors import DEVICE_FAULT, OUT_OF_MEMORY, UserError, device_fault, known, out_of_device_memory, run_cli


def test_a_user_error_is_one_line_and_status_2(capsys):
    def main():
        raise UserError("give a folder")

    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: give a folder\n"


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_what_main_returns_is_the_status(returned, status):
    with pytest.raises(SystemExit) as stop:
        run_cli(lambda: returned)
    assert stop.value.code == status


def test_other_errors_keep_their_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_cli(main)


def test_an_unknown_name_comes_with_what_is_known_and_what_was_meant():
    error = known("scale", "cpuu", ["cpu", "gpu"])
    assert str(error) == "there is no scale 'cpuu' (known: cpu, gpu); did you mean 'cpu'?"
    assert str(known("scale", "huge", [])) == "there is no scale 'huge' (known: none)"


@pytest.mark.parametrize(
    ("message", "full", "broken"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True, False),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", False, True),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", False, True),
        ("No CUDA GPUs are available", False, True),
        (
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
            False,
            False,
        ),
    ],
)
def test_errors_of_cudas_libraries_are_told_by_what_they_say(message, full, broken):
    error = RuntimeError(message)
    assert (out_of_device_memory(error), device_fault(error)) == (full, broken)
    other = ValueError(message)
    assert not out_of_device_memory(other) and not device_fault(other)


@pytest.mark.parametrize(("name", "status"), [("OutOfMemoryError", OUT_OF_MEMORY), ("AcceleratorError", DEVICE_FAULT)])
def test_a_gpu_that_is_full_or_has_failed_is_told_by_the_status(monkeypatch, capsys, name, status):
    kinds = {kind: type(kind, (RuntimeError,), {}) for kind in ("OutOfMemoryError", "AcceleratorError")}
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(**kinds))

    def main():
        raise kinds[name]("CUDA said so")

    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    assert stop.value.code == status
    assert "Traceback" in (said := capsys.readouterr().err) and "CUDA said so" in said
    with pytest.raises(RuntimeError, match="another"):  # whose class is neither
        run_cli(lambda: (_ for _ in ()).throw(RuntimeError("another")))
