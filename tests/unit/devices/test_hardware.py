from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from peftlab.devices import hardware
from peftlab.devices.hardware import (
    cpu_is_faster_in_bf16,
    describe_hardware,
    fit_to_this_machine,
    nondeterministic_parts,
    resolve_hardware,
    strategy_of,
)
from peftlab.devices.sharding import FullyShard
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import ConfigError


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many GPUs, and with or without bf16 on each kind of device."""

    def make(gpus=0, cpu_bf16=False, gpu_bf16=True):
        def is_bf16_supported(including_emulation=True):
            return gpu_bf16 or including_emulation

        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
        monkeypatch.setattr(hardware, "cpu_is_faster_in_bf16", lambda: cpu_bf16)

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


def test_tf32_is_for_fp32_on_a_gpu_that_has_it(machine, monkeypatch):
    machine(gpus=1)
    wanted = {"accelerator": "gpu", "precision": "32-true", "tf32": True}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert resolve_hardware(wanted)["tf32"] is True
    with pytest.raises(ConfigError, match="would change nothing"):
        resolve_hardware(wanted | {"precision": "auto"})
    with pytest.raises(ConfigError, match=r"capability 8\.0"):
        resolve_hardware(wanted | {"accelerator": "cpu"})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(ConfigError, match=r"capability 8\.0"):
        resolve_hardware(wanted)


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_fp16_on_the_cpu(machine, accelerator):
    """Lightning would compute in bf16 instead, and the record would name the wrong precision."""
    machine(gpus=0)
    with pytest.raises(ConfigError, match=r"trainer\.precision=16-mixed: .* use bf16-mixed or 32-true"):
        resolved(accelerator, "16-mixed")


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("vendor_id : GenuineIntel\nflags : fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile", True),
        ("vendor_id : GenuineIntel\nflags : fpu avx2 avx512f avx512_bf16", False),
        ("vendor_id : AuthenticAMD\nflags : fpu avx2 avx512f avx512_bf16", True),
        ("flags : fpu avx2 amx_bf16", True),
        ("flags : fpu avx2 avx512f", False),
        ("", False),
    ],
)
def test_the_flags_of_the_cpu(monkeypatch, flags, found):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: flags)
    assert cpu_is_faster_in_bf16() is found


def test_a_system_that_tells_no_flags(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert cpu_is_faster_in_bf16() is False


def test_what_the_record_says_of_the_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
    described = describe_hardware(TrainerSpec(accelerator="gpu", devices=2, num_nodes=3, strategy="ddp"))
    assert described == {
        "isa": torch.backends.cpu.get_cpu_capability(),
        "accelerators": ["GPU 0", "GPU 1"],
        "devices": 2,
        "num_nodes": 3,
        "world_size": 6,
        "strategy": "ddp",
    }
    assert describe_hardware(TrainerSpec(accelerator="cpu", devices=2))["accelerators"] == []


# --- several devices -------------------------------------------------------------------------------------------------


@pytest.fixture
def launched(monkeypatch):
    """Pretend that torchrun has started so many processes."""

    def by_torchrun(processes):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
        for name, number in (("WORLD_SIZE", processes), ("RANK", 0), ("LOCAL_RANK", 0)):
            monkeypatch.setenv(name, str(number))

    return by_torchrun


def several(**given) -> tuple[int, str]:
    section = resolve_hardware({"accelerator": "auto", "precision": "auto", **given})
    return section["devices"], section["strategy"]


@pytest.mark.parametrize(
    ("gpus", "given", "found"),
    [
        (0, {}, (1, "single_device")),
        (4, {}, (1, "single_device")),
        (0, {"devices": "auto", "strategy": "ddp"}, (1, "single_device")),
        (0, {"devices": 2}, (2, "ddp")),
        (0, {"devices": 2, "strategy": "fsdp"}, (2, "fsdp")),
        (4, {"devices": "auto"}, (4, "ddp")),
        (4, {"devices": "auto", "strategy": "fsdp"}, (4, "fsdp")),
        (4, {"devices": "auto", "accelerator": "cpu"}, (1, "single_device")),
        (1, {"devices": "auto", "strategy": "fsdp"}, (1, "single_device")),
    ],
)
def test_devices_and_strategy(machine, gpus, given, found):
    machine(gpus=gpus)
    assert several(**given) == found


@pytest.mark.parametrize("strategy", ["dpp", 3, ["ddp"]])
def test_a_strategy_that_there_is_not_is_left_for_the_validation(machine, strategy):
    machine(gpus=0)
    assert several(strategy=strategy) == (1, strategy)


def test_a_launcher_says_how_many_devices_there_are(machine, launched):
    machine(gpus=4)
    launched(processes=8)
    assert several(devices="auto", num_nodes=2) == (4, "ddp")


@pytest.mark.parametrize(("name", "text"), [("WORLD_SIZE", "two"), ("RANK", "")])
def test_a_launcher_whose_numbers_are_none(machine, launched, monkeypatch, name, text):
    machine(gpus=0)
    launched(processes=1)
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=rf"^{name} in the environment is '{text}': .*unset the variables"):
        several()
    monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match=rf"^{name} in the environment is not set"):
        several()


@pytest.mark.parametrize(
    ("gpus", "processes", "given", "message"),
    [
        (2, None, {"devices": 4}, "trainer.devices=4: 2 CUDA devices are visible here; use trainer.devices=auto"),
        (2, None, {"devices": 2, "num_nodes": 2}, "start the same command on each with torchrun or srun"),
        (2, 2, {"devices": 1}, "trainer.devices=1, trainer.num_nodes=1: the launcher has started 2 processes"),
        (2, None, {"devices": 2, "strategy": "single_device"}, "use auto, ddp, fsdp or deepspeed"),
        (2, None, {"devices": 2, "strategy": "fsdp", "precision": "16-mixed"}, "use bf16-mixed or 32-true"),
        (0, None, {"devices": 1_000_000}, "each device of the CPU is a process"),
        (0, None, {"devices": 2, "strategy": "deepspeed"}, "needs a CUDA device"),
        (2, None, {"devices": 2, "strategy": "deepspeed"}, "pip install 'peftlab[deepspeed]'"),
    ],
)
def test_devices_that_cannot_work_together(machine, launched, monkeypatch, gpus, processes, given, message):
    machine(gpus=gpus)
    if processes:
        launched(processes)
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError) as error:
        several(**given)
    assert message in str(error.value)
    assert str(error.value).startswith("trainer.")


def test_deepspeed_divides_no_parts_and_leaves_no_step_out(machine, monkeypatch):
    machine(gpus=2)
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: name)
    assert several(devices=2, strategy="deepspeed") == (2, "deepspeed")
    with pytest.raises(ConfigError, match=r"^trainer\.accumulate: "):
        several(devices=2, strategy="deepspeed", accumulate=2)
    with pytest.raises(ConfigError, match=r"^trainer\.on_nan=skip_batch: "):
        several(devices=2, strategy="deepspeed", on_nan="skip_batch")


@pytest.mark.parametrize("setting", ["num_nodes", "threads", "accumulate"])
def test_numbers_that_no_machine_has_are_refused(setting):
    with pytest.raises(ValidationError, match="less than or equal"):
        TrainerSpec(**{setting: 100_000})


def test_a_wrong_type_is_left_for_the_validation(machine):
    machine(gpus=0)
    assert several(devices="two") == ("two", "auto")


def test_no_machine_at_all_is_left_for_the_validation_even_by_a_launcher(machine, launched):
    machine(gpus=0)
    launched(processes=2)
    assert several(devices="auto", num_nodes=0) == ("auto", "auto")
    with pytest.raises(ValidationError, match=r"num_nodes\n.*greater than or equal to 1"):
        TrainerSpec(num_nodes=0)


def test_the_strategies_of_lightning():
    ddp = strategy_of(TrainerSpec(accelerator="cpu", devices=2, strategy="ddp"))
    assert type(ddp).__name__ == "DDPStrategy"
    fsdp = strategy_of(TrainerSpec(accelerator="cpu", devices=2, num_nodes=3, strategy="fsdp"))
    assert isinstance(fsdp, FullyShard)
    assert (fsdp._data_parallel_size, fsdp._tensor_parallel_size) == (6, 1)
    assert strategy_of(TrainerSpec(accelerator="cpu", strategy="single_device")) == "auto"


def test_shapes_are_static_on_a_gpu_and_attention_plans_for_none(machine):
    machine(gpus=1)
    section = {"accelerator": "auto", "static_shapes": "auto", "cudnn_attention": False}
    chosen = {accelerator: resolve_hardware(section | {"accelerator": accelerator}) for accelerator in ("gpu", "cpu")}
    assert [chosen[accelerator]["static_shapes"] for accelerator in ("gpu", "cpu")] == [True, False]
    assert resolve_hardware(section | {"accelerator": "cpu", "static_shapes": True})["static_shapes"] is True
    assert chosen["gpu"]["cudnn_attention"] is False


def test_a_run_from_before_there_were_static_shapes_has_none(machine):
    machine(gpus=1)
    old = [resolve_hardware({"accelerator": accelerator}) for accelerator in ("gpu", "cpu")]
    assert [trainer["static_shapes"] for trainer in old] == [False, False]
    assert [trainer["cudnn_attention"] for trainer in old] == [True, False]
    assert (TrainerSpec().static_shapes, TrainerSpec().cudnn_attention) == (False, True)


def test_steps_are_recorded_on_a_gpu_alone(machine):
    machine(gpus=1)
    section = {"accelerator": "auto", "cuda_graphs": "auto"}
    assert resolve_hardware(section)["cuda_graphs"] == "auto"
    assert resolve_hardware(section | {"accelerator": "cpu"})["cuda_graphs"] is False
    assert resolve_hardware({"accelerator": "auto"})["cuda_graphs"] is False  # a run from before there were any
    machine(gpus=0)
    for graphs in (True, "treu"):
        with pytest.raises(ConfigError, match="there are none on a CPU"):
            resolve_hardware(section | {"cuda_graphs": graphs})


@pytest.mark.parametrize(("bf16", "stored"), [(True, "bf16"), (False, "fp32")])
def test_frozen_weights_follow_the_precision(machine, bf16, stored):
    machine(gpus=0, cpu_bf16=bf16)
    section = {"accelerator": "auto", "precision": "auto", "frozen_weights": "auto"}
    assert resolve_hardware(section)["frozen_weights"] == stored


def test_frozen_weights_in_bf16_want_autocast(machine):
    machine(gpus=0)
    with pytest.raises(ConfigError, match=r"trainer\.frozen_weights=bf16: goes with trainer\.precision=bf16-mixed"):
        resolve_hardware({"accelerator": "cpu", "precision": "32-true", "frozen_weights": "bf16"})


@pytest.mark.parametrize(
    ("trainer", "parts"),
    [
        ({"accelerator": "cpu"}, []),
        ({"accelerator": "cpu", "compile": True, "devices": 2, "strategy": "ddp"}, []),
        ({"accelerator": "cpu", "deterministic": False}, ["trainer.deterministic=false"]),
        ({"accelerator": "gpu"}, []),
        ({"accelerator": "gpu", "deterministic": False}, ["trainer.deterministic=false"]),
        ({"accelerator": "gpu", "compile": True}, ["trainer.compile=true"]),
        ({"accelerator": "gpu", "devices": 2, "strategy": "ddp"}, []),
        ({"accelerator": "gpu", "devices": 4, "num_nodes": 2, "strategy": "fsdp"}, ["8 devices"]),
        ({"accelerator": "gpu", "devices": 2, "strategy": "deepspeed"}, ["deepspeed"]),
        (
            {"accelerator": "gpu", "devices": 3, "strategy": "ddp", "deterministic": False, "compile": True},
            ["trainer.deterministic=false", "trainer.compile=true", "3 devices"],
        ),
    ],
)
def test_what_may_give_other_bits_is_named(trainer, parts):
    assert [part.partition(":")[0] for part in nondeterministic_parts(TrainerSpec(**trainer))] == parts


def made_with(**settings) -> dict:
    return {"accelerator": "gpu", "devices": 4, "num_nodes": 2, "precision": "16-mixed", "strategy": "ddp", **settings}


def test_a_run_of_a_gpu_is_made_on_the_cpu_where_there_is_none(machine):
    machine(gpus=0)
    assert fit_to_this_machine(made_with(devices=1, num_nodes=1)) == made_with(
        **{"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "32-true", "frozen_weights": "fp32"},
        **{"static_shapes": False, "tf32": False, "cuda_graphs": False},
    )


def test_a_run_of_more_devices_is_made_on_those_that_are_here(machine):
    machine(gpus=3)
    assert fit_to_this_machine(made_with()) == made_with(devices=3, num_nodes=1)


def test_hardware_that_is_here_is_kept(machine):
    machine(gpus=4)
    assert fit_to_this_machine(made_with(num_nodes=1)) == made_with(num_nodes=1)
    on_cpus = made_with(accelerator="cpu", num_nodes=1)
    assert fit_to_this_machine(on_cpus) == on_cpus
