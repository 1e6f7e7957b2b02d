"""The hardware of a run: which device, in which precision, and how a step is put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class TrainerSpec:
    """Hardware, precision, and what happens within a step."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """The kind of device; auto: a GPU where there is one."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Of the arithmetic; auto: bf16-mixed where the device computes in it natively, else 16-mixed on a GPU, 32-true."""
    accumulate: int = Field(default=1, ge=1)
    """Batches a step of the optimiser."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """The largest norm of the whole gradient; None: no clipping."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    cheap_dropout: bool | Literal["auto"] = "auto"
    """Dropout with masks that are cheap to draw on a CPU, see `peftlab.speed.dropout`; auto: on a CPU."""
    frozen_weights: Literal["auto", "fp32", "bf16"] = "auto"
    """How frozen linear layers are stored; auto: bf16 under bf16-mixed, where it gives the same bits sooner."""
    fused_lora: bool = True
    """Plain LoRA layers in one step of autograd, see `peftlab.speed.lora`; equal up to rounding."""
    deterministic: bool = True
    """Use only algorithms that give the same bits every time."""
    threads: int | None = Field(default=None, ge=1)
    """Of the CPU; None: as many as torch takes."""
    log_every: int = Field(default=10, ge=1)
    """Optimiser steps between rows in the loggers."""


def resolve_hardware(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return the `trainer` section with every ``auto`` replaced by what it means on this machine.

    Raises:
        ConfigError: what is asked for is not here: a GPU, or fp16 on the CPU.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    accelerator = trainer.get("accelerator")
    if accelerator == "auto":
        accelerator = "gpu" if gpus else "cpu"
    if accelerator == "gpu" and not gpus:
        raise ConfigError("trainer.accelerator=gpu: no CUDA device is visible here; use trainer=cpu or trainer=auto")
    precision = trainer.get("precision")
    if accelerator == "cpu" and precision == "16-mixed":  # Lightning would compute in another precision than recorded
        raise ConfigError("trainer.precision=16-mixed: the CPU has no such mode; use bf16-mixed or 32-true")
    if precision == "auto":
        precision = _best_precision(str(accelerator))
    cheap = trainer.get("cheap_dropout")
    frozen = trainer.get("frozen_weights")
    if frozen == "bf16" and precision != "bf16-mixed":
        raise ConfigError(f"trainer.frozen_weights=bf16: goes with trainer.precision=bf16-mixed, not with {precision}")
    return {
        **trainer,
        "accelerator": accelerator,
        "precision": precision,
        "cheap_dropout": accelerator == "cpu" if cheap == "auto" else cheap,
        "frozen_weights": ("bf16" if precision == "bf16-mixed" else "fp32") if frozen == "auto" else frozen,
    }


def _best_precision(accelerator: str) -> Precision:
    if accelerator == "gpu":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if cpu_computes_bf16() else "32-true"


def cpu_computes_bf16() -> bool:
    """Return whether this CPU multiplies bf16 matrices natively; elsewhere bf16 is slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def describe_hardware() -> dict[str, Any]:
    """Return what only torch knows of the machine, for the record."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    return {
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "accelerators": [torch.cuda.get_device_name(i) for i in gpus],
    }
