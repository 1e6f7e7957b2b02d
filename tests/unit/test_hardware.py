from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab import hardware
from peftlab.errors import ConfigError
from peftlab.hardware import cpu_computes_bf16, describe_hardware, resolve_hardware


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many GPUs, and with or without bf16 on each kind of device."""

    def make(gpus=0, cpu_bf16=False, gpu_bf16=True):
        def is_bf16_supported(including_emulation=True):
            return gpu_bf16 or including_emulation

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
        monkeypatch.setattr(hardware, "cpu_computes_bf16", lambda: cpu_bf16)

    return make


def resolved(accelerator="auto", precision="auto") -> tuple[str, str]:
    section = resolve_hardware({"accelerator": accelerator, "precision": precision, "log_every": 3})
    assert section["log_every"] == 3
    return section["accelerator"], section["precision"]


@pytest.mark.parametrize(
    ("here", "found"),
    [
        ({"gpus": 0, "cpu_bf16": False}, ("cpu", "32-true")),
        ({"gpus": 0, "cpu_bf16": True}, ("cpu", "bf16-mixed")),
        ({"gpus": 2, "gpu_bf16": True}, ("gpu", "bf16-mixed")),
        ({"gpus": 1, "gpu_bf16": False, "cpu_bf16": True}, ("gpu", "16-mixed")),
    ],
)
def test_auto_is_the_best_there_is(machine, here, found):
    machine(**here)
    assert resolved() == found


def test_the_cpu_can_be_chosen_beside_a_gpu(machine):
    machine(gpus=1, gpu_bf16=True, cpu_bf16=False)
    assert resolved("cpu") == ("cpu", "32-true")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_what_is_named_stays(machine, precision):
    machine(gpus=1, gpu_bf16=False)
    assert resolved("gpu", precision) == ("gpu", precision)


def test_the_section_given_is_left_alone(machine):
    machine()
    section = {"accelerator": "auto", "precision": "auto"}
    resolve_hardware(section)
    assert section == {"accelerator": "auto", "precision": "auto"}


def test_a_gpu_that_is_not_there(machine):
    machine(gpus=0)
    with pytest.raises(ConfigError) as error:
        resolved("gpu")
    assert str(error.value) == (
        "trainer.accelerator=gpu: no CUDA device is visible here; use trainer=cpu or trainer=auto"
    )


@pytest.mark.parametrize(("gpus", "cheap"), [(0, True), (1, False)])
def test_cheap_dropout_is_for_the_cpu(machine, gpus, cheap):
    machine(gpus=gpus)
    auto = {"accelerator": "auto", "precision": "auto"}
    assert resolve_hardware(auto | {"cheap_dropout": "auto"})["cheap_dropout"] is cheap
    assert resolve_hardware(auto | {"cheap_dropout": False})["cheap_dropout"] is False


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_fp16_on_the_cpu(machine, accelerator):
    """Lightning would compute in bf16 instead, and the record would name the wrong precision."""
    machine(gpus=0)
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixed: .* use bf16-mixed or 32-true"):
        resolved(accelerator, "16-mixed")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 amx_tile", True),
        ("flags : fpu avx2 amx_bf16", True),
        ("flags : fpu avx2 avx512f", False),
        ("", False),
    ],
)
def test_the_flags_of_the_cpu(monkeypatch, flags, found):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: flags)
    assert cpu_computes_bf16() is found


def test_a_system_that_tells_no_flags(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert cpu_computes_bf16() is False


def test_what_the_record_says_of_the_machine(machine, monkeypatch):
    machine(gpus=2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
    described = describe_hardware()
    assert described["accelerators"] == ["GPU 0", "GPU 1"]
    assert described["threads"] == torch.get_num_threads()
    assert described["isa"] == torch.backends.cpu.get_cpu_capability()
    machine(gpus=0)
    assert describe_hardware()["accelerators"] == []


@pytest.mark.parametrize(("bf16", "stored"), [(True, "bf16"), (False, "fp32")])
def test_frozen_weights_follow_the_precision(machine, bf16, stored):
    machine(gpus=0, cpu_bf16=bf16)
    section = {"accelerator": "auto", "precision": "auto", "frozen_weights": "auto"}
    assert resolve_hardware(section)["frozen_weights"] == stored


def test_frozen_weights_in_bf16_want_autocast(machine):
    machine(gpus=0)
    with pytest.raises(ConfigError, match=r"trainer\.frozen_weights=bf16: goes with trainer\.precision=bf16-mixed"):
        resolve_hardware({"accelerator": "cpu", "precision": "32-true", "frozen_weights": "bf16"})
