"""The hardware of a run, as configured."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
StrategyName = Literal["auto", "single_device", "ddp", "fsdp", "deepspeed"]

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""The dtype that Lightning computes in under each mixed precision."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class TrainerSpec:
    """Hardware, precision, and how a step is computed. None of it changes the examples of a step.

    The fields form five groups, in the order of ``conf/trainer/auto.yaml``: the devices, the step, its speed, its
    failures, and how often something is written.
    """

    # The devices, and how they work together.

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """The kind of device; auto: a GPU where there is one."""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Devices of each machine; auto: all its GPUs, or one CPU, or one for each process that a launcher has started."""
    num_nodes: int = Field(default=1, ge=1, le=10_000)
    """Machines; more than one needs a launcher: torchrun, SLURM."""
    strategy: StrategyName = "auto"
    """How several devices work together: each with the whole model (ddp), with a shard of it (fsdp), or of the
    optimiser's state (deepspeed); auto: ddp. One device is always single_device."""
    zero_stage: Literal[1, 2] = 2
    """For deepspeed: 1 shards the optimiser's state, 2 the gradients too."""
    offload_optimizer: bool = False
    """For deepspeed: keep the optimiser's state in CPU memory."""
    find_unused_parameters: bool = False
    """Without effect: the ranks average their gradients once a step, and a missing gradient counts as zero. The key
    stays because configurations of older runs have it."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads in each process; None: torch's default, divided among the processes of a machine."""

    # A step: its precision, its parts and its gradient.

    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """The precision of the arithmetic; auto: bf16-mixed where that is faster, else 16-mixed on a GPU, else 32-true."""
    tf32: bool = False
    """With 32-true on a GPU: multiply matrices in TF32, which keeps 10 bits of the mantissa, several times as fast."""
    accumulate: int = Field(default=1, ge=1, le=10_000)
    """Parts in which a device computes its share of a batch, in turn: less memory, the same step."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """The largest norm of the whole gradient; None: no clipping."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    deterministic: bool = True
    """Use only algorithms that give the same bits every time."""

    # Faster ways to the same result.

    static_shapes: bool | Literal["auto"] = False
    """Pad rows to a few lengths, and fill up training batches, see `peftlab.data.static_shapes`; auto: on a GPU. Left
    out: false, for configurations of older runs lack the key."""
    cudnn_attention: bool = True
    """Let attention take cuDNN's kernels on a GPU, which plan anew for each shape, see `peftlab.speed.attention`. Left
    out: true, for the same reason."""
    cuda_graphs: bool | Literal["auto"] = False
    """Record whole steps as CUDA graphs, one for each shape of a batch, see `peftlab.training.captured`; auto: on a
    GPU, where all that a step does can be recorded. Left out: false, for the same reason."""
    compile: bool = False
    """Compile the model with torch.compile: compiling takes minutes, later steps less time."""
    cheap_dropout: bool | Literal["auto"] = "auto"
    """Dropout with masks that are cheap to draw on a CPU, see `peftlab.speed.dropout`; auto: on a CPU."""
    frozen_weights: Literal["auto", "fp32", "bf16"] = "auto"
    """How frozen linear layers are stored; auto: bf16 under bf16-mixed, where it gives the same bits faster."""
    fused_lora: bool = True
    """Plain LoRA layers in one step of autograd, see `peftlab.speed.lora`; equal up to rounding."""
    cache_activations: bool | Literal["auto"] = "auto"
    """Compute the layers below the first trained one only once, and train from their output, see
    `peftlab.speed.activation_cache`; auto: where no dropout below changes it."""
    activation_cache_gib: float = Field(default=8.0, gt=0)
    """GiB of disk for the cached activations of all runs; the least recently used are removed."""

    # When a step fails.

    on_nan: Literal["stop", "skip_batch"] = "stop"
    """For a loss or gradient of NaN or infinity: end the run before anything changes, or skip the step."""
    on_out_of_memory: Literal["split", "stop"] = "split"
    """For a batch that does not fit in memory: compute it in pieces, which makes the same step, or end the run; with a
    sharded model (fsdp, deepspeed), always end the run."""

    # How often something is written.

    log_every: int = Field(default=10, ge=1)
    """Optimiser steps between rows in the loggers."""
    trail_every: int = Field(default=200, ge=1)
    """Optimiser steps between points of the trail, see `peftlab.training.trail`."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Optimiser steps between checkpoints to resume from; None: by time, see `peftlab.training.checkpointing`."""
    keep_every: int | None = Field(default=None, ge=1)
    """Optimiser steps between checkpoints that are kept after the run; None: none are."""

    @property
    def sharded(self) -> bool:
        """Whether a rank holds only a shard of the model, of its gradient or of the optimiser's state."""
        return self.strategy in ("fsdp", "deepspeed")

    @property
    def world_size(self) -> int:
        """The number of ranks, one for each device of all machines."""
        assert self.devices != "auto", "`resolve_hardware` has settled it"
        return self.devices * self.num_nodes
