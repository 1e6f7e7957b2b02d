"""The hardware of a run, as the configuration has it."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""What Lightning computes in under each mixed precision."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class TrainerSpec:
    """Hardware, precision, and what happens within a step. None of it changes what a step learns from."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """The kind of device; auto: a GPU where there is one."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Of each machine; auto: all its GPUs, or one CPU, or as many as a launcher has started processes."""
    num_nodes: int = Field(default=1, ge=1, le=10_000)
    """Machines; more than one wants a launcher: torchrun, SLURM."""
    strategy: Literal["auto", "single_device", "ddp", "fsdp", "deepspeed"] = "auto"
    """How several devices work together: each with the whole model (ddp), with a share of it (fsdp), or of the
    optimiser's state (deepspeed); auto: ddp. One device is single_device, whatever is asked for."""
    find_unused_parameters: bool = False
    """Without effect: the ranks average their gradients once a step, and what a loss does not depend on counts as
    zero. The key stays because configurations of older runs have it."""
    zero_stage: Literal[1, 2] = 2
    """Of deepspeed: what is shared out, the optimiser's state, or the gradients too."""
    offload_optimizer: bool = False
    """Of deepspeed: keep the optimiser's state in the memory of the CPU."""
    compile: bool = False
    """Compile the model with torch.compile: the first steps take minutes, the others less time."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Of the arithmetic; auto: bf16-mixed where that is faster, else 16-mixed on a GPU, 32-true."""
    accumulate: int = Field(default=1, ge=1, le=10_000)
    """Parts that a device computes its share of a batch in, one after another: less memory, the same step."""
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
    cache_activations: bool | Literal["auto"] = "auto"
    """Compute what layers below the first trained one give once, and start training from there, see
    `peftlab.speed.activation_cache`; auto: where no dropout below changes it."""
    activation_cache_gib: float = Field(default=8.0, gt=0)
    """Disk that such activations of all runs may take; the least recently used make room."""
    deterministic: bool = True
    """Use only algorithms that give the same bits every time."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """Of the CPU, in each process; None: as many as torch takes, shared out among the processes of a machine."""
    on_nan: Literal["stop", "skip_batch"] = "stop"
    """What happens to a step whose loss or gradient is NaN or infinite: the run ends before anything is changed, or the
    step is left out."""
    on_out_of_memory: Literal["split", "stop"] = "split"
    """What happens to a batch that memory does not suffice for: it is computed in pieces, which makes the same step, or
    the run ends, as it always does where the model is shared out (fsdp, deepspeed)."""
    log_every: int = Field(default=10, ge=1)
    """Optimiser steps between rows in the loggers."""
    trail_every: int = Field(default=200, ge=1)
    """Optimiser steps between points of the trail, see `peftlab.training.trail`."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Optimiser steps between checkpoints to resume from; None: by time, see `peftlab.training.checkpointing`."""
    keep_every: int | None = Field(default=None, ge=1)
    """Optimiser steps between checkpoints that are kept when the run is over; None: none are."""

    @property
    def sharded(self) -> bool:
        """Whether a rank holds only a share of the model, of its gradient or of the optimiser's state."""
        return self.strategy in ("fsdp", "deepspeed")

    @property
    def world_size(self) -> int:
        """Ranks, one a device, over all machines."""
        assert self.devices != "auto", "`resolve_hardware` has settled it"
        return self.devices * self.num_nodes
