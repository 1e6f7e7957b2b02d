from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from peftlab.devices import energy as energy_module
from peftlab.devices.energy import Energy

CPU = torch.device("cpu")
GPU = torch.device("cuda", 1)


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Return a function that sets a zone's microjoules; at first there are none."""
    monkeypatch.setattr(energy_module, "_POWERCAP", tmp_path)

    def zone(folder: str, name: str, microjoules: int) -> None:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "name").write_text(f"{name}\n")
        (tmp_path / folder / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("262143328850\n")

    return zone


@pytest.fixture
def nvml(monkeypatch):
    """Return a stand-in for pynvml with one GPU; ``millijoules`` is what it has counted."""

    class NVMLError(Exception):
        pass

    def of(handle: str) -> int:
        if module.millijoules is None:
            raise NVMLError("not supported")
        return module.millijoules

    module = SimpleNamespace(
        millijoules=5_000_000,
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-0b7c": "handle"}[uuid],
        nvmlDeviceGetName=lambda handle: "NVIDIA H200",
        nvmlDeviceGetTotalEnergyConsumption=of,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0b7c"))
    return module


def test_packages_and_their_memory_are_counted_and_cores_are_not_counted_twice(powercap):
    zones = [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram")]
    zones += [("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0")]
    for folder, name in zones:
        powercap(folder, name, 1_000_000)
    energy = Energy()
    energy.start(CPU, counts_host=True)
    for folder, name in zones:
        powercap(folder, name, 3_500_000)
    assert energy.total() == pytest.approx(3 * 2.5)
    assert energy.counted == ["dram (RAPL)", "package-0 (RAPL)", "package-1 (RAPL)"]


def test_a_counter_that_starts_from_zero_is_followed(powercap):
    powercap("intel-rapl:0", "package-0", 262_143_000_000)
    energy = Energy()
    energy.start(CPU, counts_host=True)
    powercap("intel-rapl:0", "package-0", 671_150)
    assert energy.total() == pytest.approx(1.0)


def test_it_is_read_before_it_can_start_from_zero_twice(powercap, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(energy_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    powercap("intel-rapl:0", "package-0", 262_143_328_850 - 200_000_000)
    energy = Energy()
    energy.start(CPU, counts_host=True)
    for microjoules, seconds in [(100_000_000, 31), (300_000_000, 1), (50_000_000, 31)]:
        powercap("intel-rapl:0", "package-0", microjoules)
        now[0] += seconds
        energy.keep_up()
    # the second value came too soon to be read; then the counter went all the way round
    assert energy.total() == pytest.approx(200 + 100 + (262_143.32885 - 50))


def test_a_gpu_is_counted_beside_the_host(powercap, nvml):
    powercap("intel-rapl:0", "package-0", 0)
    energy = Energy()
    energy.start(GPU, counts_host=True)
    nvml.millijoules += 7_500
    powercap("intel-rapl:0", "package-0", 500_000)
    assert energy.total() == pytest.approx(8.0)
    assert energy.counted == ["GPU NVIDIA H200 (NVML)", "package-0 (RAPL)"]


def test_where_the_device_has_no_counter_nothing_is_claimed(powercap, nvml):
    on_cpu, on_gpu, beside = Energy(), Energy(), Energy()
    on_cpu.start(CPU, counts_host=True)
    assert on_cpu.total() is None
    powercap("intel-rapl:0", "package-0", 0)
    nvml.millijoules = None
    on_gpu.start(GPU, counts_host=True)  # the host alone is a small part
    assert on_gpu.total() is None
    beside.start(CPU, counts_host=False)  # another rank of the machine counts the host
    assert beside.total() == 0


def test_an_unreadable_counter_is_none(powercap, monkeypatch):
    powercap("intel-rapl:0", "package-0", 0)
    monkeypatch.setattr("pathlib.Path.read_text", lambda *args, **kwargs: (_ for _ in ()).throw(PermissionError()))
    energy = Energy()
    energy.start(CPU, counts_host=True)
    assert energy.total() is None


def test_a_resumed_run_goes_on_from_what_its_checkpoint_has(powercap):
    powercap("intel-rapl:0", "package-0", 0)
    known, unknown = Energy(), Energy()
    known.resume(40.0)
    unknown.resume(None)
    for energy in (known, unknown):
        energy.start(CPU, counts_host=True)
    powercap("intel-rapl:0", "package-0", 2_000_000)
    assert known.total() == pytest.approx(42.0)
    assert unknown.total() is None


def test_the_binding_has_what_is_asked_of_it():
    import pynvml

    assert all(
        hasattr(pynvml, name)
        for name in (
            "NVMLError",
            "nvmlInit",
            "nvmlDeviceGetHandleByUUID",
            "nvmlDeviceGetName",
            "nvmlDeviceGetTotalEnergyConsumption",
        )
    )


@pytest.mark.parametrize("hardware", ["GPU", "processor"])
def test_a_counter_that_fails_makes_the_energy_unknown_and_says_so(nvml, powercap, caplog, hardware):
    powercap("intel-rapl:0", "package-0", 1_000_000)
    energy = Energy()
    energy.start(GPU if hardware == "GPU" else CPU, counts_host=True)
    assert energy.total() == 0.0
    if hardware == "GPU":
        nvml.millijoules = None
    else:
        powercap("intel-rapl:0", "package-0", 2_000_000)
        (energy_module._POWERCAP / "intel-rapl:0" / "energy_uj").write_text("no number\n")
    assert energy.total() is None
    assert energy.total() is None
    assert caplog.text.count("can no longer be read") == 1
