"""Joules against closed forms: a constant power, a counter, a command that prints watts; and none without a GPU."""

import stat
import sys
import time
from types import SimpleNamespace

import pytest

from methods import energy


def test_a_constant_power_times_the_time():
    begin = time.monotonic()
    with energy.integrated(lambda: 200.0, every=0.01) as joules:
        time.sleep(0.1)
        inside = time.monotonic() - begin
        found = joules()
        assert 200 * 0.1 <= found <= 200 * (time.monotonic() - begin) and inside >= 0.1


def test_a_reading_that_fails_is_left_out():
    readings = iter([100.0, None, None])

    def power():
        if (value := next(readings, 100.0)) is None:
            raise ValueError("[N/A]")
        return value

    with energy.integrated(power, every=0.01) as joules:
        time.sleep(0.1)
        assert 100 * 0.1 <= joules() < 100 * 60


def test_the_cards_own_counter_is_read_where_there_is_one(monkeypatch):
    counted = {"3": 5000, "GPU-x": 1000}
    module = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=str,
        nvmlDeviceGetHandleByUUID=str,
        nvmlDeviceGetTotalEnergyConsumption=counted.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-x,7")
    with energy.metered(2) as meter:
        counted["3"] += 2500  # millijoules
        counted["GPU-x"] += 500
        assert meter.joules == pytest.approx(3.0)
    with energy.metered(0) as meter:
        assert meter.joules is None


def test_without_the_package_nvidia_smi_is_asked(monkeypatch, tmp_path):
    command = tmp_path / "nvidia-smi"
    command.write_text(
        '#!/bin/sh\ncase "$*" in *query-gpu=index*) printf "0\\n1\\n";; *id=0,1*) printf "100.5\\n99.5\\n";; esac\n'
    )
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import of it fails
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    begin = time.monotonic()
    with energy.metered(8) as meter:
        time.sleep(0.1)
        assert 200 * 0.1 <= meter.joules <= 200 * (time.monotonic() - begin)


def test_a_power_that_nobody_can_read_is_no_number(monkeypatch, tmp_path):
    """As of a slice of a card (MIG): nvidia-smi is there, and says N/A."""
    command = tmp_path / "nvidia-smi"
    command.write_text('#!/bin/sh\necho "[N/A]"\n')
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-0123")
    with energy.metered(1) as meter:
        assert meter.joules is None


@pytest.mark.parametrize("visible", ["", None])
def test_no_gpu_no_number(monkeypatch, tmp_path, visible):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with energy.metered(1) as meter:
        assert meter.joules is None
