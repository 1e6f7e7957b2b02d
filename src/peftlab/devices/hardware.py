"""The hardware of a run: which devices, in which precision, with which strategy."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, Strategy

from peftlab.devices.launched import number_in
from peftlab.devices.sharding import FullyShard
from peftlab.devices.spec import Precision, StrategyName, TrainerSpec
from peftlab.errors import ConfigError

CPU_PROCESSES = max(8, os.cpu_count() or 1)
"""The most processes that train on the CPU of one machine."""

_NUMBERS: dict[type[ClusterEnvironment], tuple[str, ...]] = {
    TorchElasticEnvironment: ("WORLD_SIZE", "RANK", "LOCAL_RANK"),
    SLURMEnvironment: ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
}
"""The variables that Lightning reads as numbers, by launcher; it checks those of others itself."""


def resolve_hardware(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return the `trainer` section with every ``auto`` replaced by its value on this machine.

    Raises:
        ConfigError: a GPU, precision or package is not available here, or settings conflict.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    accelerator = trainer.get("accelerator")
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    if accelerator == "gpu" and not gpus:
        raise ConfigError("trainer.accelerator=gpu: no CUDA device is visible here; use trainer=cpu or trainer=auto")
    devices, strategy = _devices_and_strategy(trainer, str(accelerator), gpus)
    precision = trainer.get("precision")
    if accelerator == "cpu" and precision == "16-mixed":  # Lightning would compute in another precision than recorded
        raise ConfigError("trainer.precision=16-mixed: the CPU has no such mode; use bf16-mixed or 32-true")
    if precision == "auto":
        precision = _best_precision(str(accelerator))
    if strategy == "fsdp" and precision == "16-mixed":
        raise ConfigError("trainer.precision=16-mixed: fsdp has no such mode; use bf16-mixed or 32-true")
    _check_tf32(trainer.get("tf32", False), str(accelerator), precision)
    cheap = trainer.get("cheap_dropout")
    frozen = trainer.get("frozen_weights")
    static = trainer.get("static_shapes", False)
    graphs = trainer.get("cuda_graphs", False)
    if graphs not in (False, "auto") and accelerator != "gpu":
        raise ConfigError(
            f"trainer.cuda_graphs={str(graphs).lower()}: there are none on a CPU; use auto or false, or trainer=gpu"
        )
    if frozen == "bf16" and precision != "bf16-mixed":
        raise ConfigError(f"trainer.frozen_weights=bf16: goes with trainer.precision=bf16-mixed, not with {precision}")
    return {
        **trainer,
        "accelerator": accelerator,
        "devices": devices,
        "strategy": strategy,
        "precision": precision,
        "static_shapes": accelerator == "gpu" if static == "auto" else static,
        "cudnn_attention": trainer.get("cudnn_attention", accelerator == "gpu"),  # older runs took them
        "cuda_graphs": graphs if accelerator == "gpu" else False,
        "cheap_dropout": accelerator == "cpu" if cheap == "auto" else cheap,
        "frozen_weights": ("bf16" if precision == "bf16-mixed" else "fp32") if frozen == "auto" else frozen,
    }


def fit_to_this_machine(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved `trainer` section of a run made elsewhere, reduced to the hardware of this machine."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    fitted = dict(trainer)
    if trainer["accelerator"] == "gpu" and not gpus:
        fitted |= {"accelerator": "cpu", "precision": "32-true", "frozen_weights": "fp32"}
        fitted |= {"static_shapes": False, "tf32": False, "cuda_graphs": False}
    if trainer["num_nodes"] > 1 or (trainer["accelerator"] == "gpu" and trainer["devices"] > gpus):
        fitted |= {"devices": max(1, gpus), "num_nodes": 1}
    return fitted


def _check_tf32(tf32: Any, accelerator: str, precision: Any) -> None:
    """Check that the GPU multiplies in TF32 (from Ampere on, capability 8.0) if that is wanted, and in nothing less."""
    if tf32 is not True:  # wrong types are left alone
        return
    if accelerator != "gpu" or torch.cuda.get_device_capability() < (8, 0):
        raise ConfigError("trainer.tf32=true: needs an NVIDIA GPU of capability 8.0 (Ampere) or newer; leave it out")
    if precision != "32-true":
        raise ConfigError(f"trainer.tf32=true: would change nothing, as trainer.precision={precision} is less precise")


def _check_what_is_started(devices: int, nodes: int, accelerator: str) -> None:
    """Check the processes that start without a launcher: one for each device, on this machine."""
    if nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={nodes}: several machines need a launcher: start the same command on each "
            "with torchrun or srun"
        )
    if accelerator == "cpu" and devices > CPU_PROCESSES:
        raise ConfigError(
            f"trainer.devices={devices}: each device of the CPU is a process with a model of its own, and this machine "
            f"has {os.cpu_count()} cores; at most {CPU_PROCESSES} are started"
        )


def _devices_and_strategy(trainer: dict[str, Any], accelerator: str, gpus: int) -> tuple[Any, Any]:
    """Return both without ``auto``, checked against this machine and the launcher.

    Wrong types, unknown names, and machines that are fewer than one, are left for the validation.
    """
    devices, nodes, strategy = trainer.get("devices", 1), trainer.get("num_nodes", 1), trainer.get("strategy", "auto")
    environment = launcher()
    is_meant = strategy in get_args(StrategyName) and isinstance(nodes, int) and nodes >= 1
    if not is_meant or not (isinstance(devices, int) or devices == "auto"):
        return devices, strategy
    if devices == "auto":
        devices = environment.world_size() // nodes if environment else gpus if accelerator == "gpu" else 1
    if accelerator == "gpu" and devices > gpus:
        raise ConfigError(f"trainer.devices={devices}: {gpus} CUDA devices are visible here; use trainer.devices=auto")
    if environment is None:
        _check_what_is_started(devices, nodes, accelerator)
    elif (started := environment.world_size()) != devices * nodes:
        raise ConfigError(
            f"trainer.devices={devices}, trainer.num_nodes={nodes}: the launcher has started {started} processes; "
            "set trainer.num_nodes to the number of machines and trainer.devices to the processes on each"
        )
    several = devices * nodes > 1
    if strategy == "deepspeed" and several:
        if accelerator != "gpu":
            raise ConfigError("trainer.strategy=deepspeed: needs a CUDA device; use trainer=ddp or trainer=fsdp")
        if importlib.util.find_spec("deepspeed") is None:
            raise ConfigError("trainer.strategy=deepspeed: the package is missing: pip install 'peftlab[deepspeed]'")
        if trainer.get("accumulate", 1) != 1:
            raise ConfigError("trainer.accumulate: deepspeed weighs the parts of a batch alike; use 1, or trainer=fsdp")
        if trainer.get("on_nan") == "skip_batch":
            raise ConfigError("trainer.on_nan=skip_batch: deepspeed makes its steps itself, leaving none out; use stop")
    if strategy == "single_device" and several:
        raise ConfigError("trainer.strategy=single_device: there are several devices; use auto, ddp, fsdp or deepspeed")
    if not several:  # whatever the strategy: one device shares nothing
        return devices, "single_device"
    return devices, "ddp" if strategy == "auto" else strategy


def launcher() -> ClusterEnvironment | None:
    """Return the launcher that started this process, which knows the number and addresses of all; None: no launcher.

    Raises:
        ConfigError: it has left a number out of the environment.
    """
    kinds = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
    kind = next((kind for kind in kinds if kind.detect()), None)
    for name in _NUMBERS.get(kind, ()) if kind else ():
        number_in(name)
    # the same command resumes the run: the user decides whether to queue the job again
    return SLURMEnvironment(auto_requeue=False) if kind is SLURMEnvironment else kind and kind()


def strategy_of(trainer: TrainerSpec) -> Strategy | str:
    """Return Lightning's strategy for several devices.

    ``fsdp`` is torch's ``fully_shard`` (FSDP2): it shards each parameter separately, so that frozen and trained
    weights, even of different types, need no special grouping.
    """
    match trainer.strategy:
        case "ddp":
            return DDPStrategy()
        case "fsdp":
            return FullyShard(data_parallel_size=trainer.world_size, tensor_parallel_size=1)
        case "deepspeed":
            return DeepSpeedStrategy(stage=trainer.zero_stage, offload_optimizer=trainer.offload_optimizer)
    return "auto"


def _best_precision(accelerator: str) -> Precision:
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_is_faster_in_bf16() else "32-true"


def cpu_is_faster_in_bf16() -> bool:
    """Return whether this CPU multiplies bf16 matrices faster than fp32 ones.

    AMX does, and AVX512-BF16 on AMD's processors, twice as fast. On Intel's the same instructions take twice the
    time of fp32 products, which matters where a virtual machine hides AMX; elsewhere bf16 is emulated.
    """
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in cpuinfo or ("avx512_bf16" in cpuinfo and "AuthenticAMD" in cpuinfo)


def nondeterministic_parts(trainer: TrainerSpec) -> list[str]:
    """Return the sources of different bits when a run is repeated on the same machine with as many threads.

    With ``deterministic`` PyTorch refuses every operation that it knows to be nondeterministic, its attention kernels
    take their deterministic backward pass, and Lightning gives cuBLAS a workspace of fixed size: the other sources are
    beyond that switch.
    """
    parts = []
    if not trainer.deterministic:
        where = "scattered gradients on the CPU" if trainer.accelerator == "cpu" else "atomic additions, cuBLAS, cuDNN"
        parts.append(f"trainer.deterministic=false: PyTorch may add in any order ({where})")
    if trainer.compile and trainer.accelerator == "gpu":
        parts.append("trainer.compile=true: kernels are chosen by how fast they were on trial")
    if trainer.world_size > 2:  # of two numbers there is one sum
        parts.append(f"{trainer.world_size} devices: the order of sums over them is that of the communication library")
    if trainer.strategy == "deepspeed":
        parts.append("deepspeed: its own kernels, and communication that overlaps with them")
    return parts


def describe_hardware(trainer: TrainerSpec) -> dict[str, Any]:
    """Return the facts about the machine that only torch knows, for the record."""
    gpus = range(trainer.world_size // trainer.num_nodes) if trainer.accelerator == "gpu" else ()
    return {
        "isa": torch.backends.cpu.get_cpu_capability(),
        "accelerators": [torch.cuda.get_device_name(i) for i in gpus],
        "devices": trainer.devices,
        "num_nodes": trainer.num_nodes,
        "world_size": trainer.world_size,
        "strategy": trainer.strategy,
    }
