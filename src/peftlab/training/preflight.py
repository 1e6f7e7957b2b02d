"""The memory that a training will need at its peak, before its first step.

A step over a whole batch may be what does not fit. Of a language model, whose rows may be long, the model runs over one
row of a few tokens, at three lengths: what a forward pass keeps for the backward pass is the same part for any batch, a
part for each token, and, where attention is computed without a fused kernel, a part for each pair of tokens of a row.
Of other tasks, whose examples may have several rows, or be pictures, it runs over one example, and over two: what the
second adds, each further one adds.

That is what tensors take. On a CPU the heap of the C library has gaps beside them: SmolLM-like models took up to 1.5
times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.data.batching import generator_of
from peftlab.data.module import DataModule
from peftlab.devices.free_memory import free_memory
from peftlab.devices.peak_memory import held_memory, peak_memory
from peftlab.seams.pytorch import uncompiled
from peftlab.tasks.batch import Batch, Part
from peftlab.tasks.losses.token_losses import CHUNK
from peftlab.tasks.outputs.deferred_logits import DeferredLogits
from peftlab.tasks.task import Task
from peftlab.training.footprint import Activations, of_parameters

Autocast = Callable[[], AbstractContextManager[object]]
"""Returns the context of a forward pass, which sets its precision."""

_GIB = 2**30
_LENGTHS = (32, 64, 128)
"""Tokens of the rows that are tried; shorter ones if the batch has no such rows."""
_LOGITS = 3
"""Tensors of the size of the logits that exist at a time, in fp32: themselves, their softmax, and the gradient."""
_GAPS = 1.5
"""The memory that tensors in the heap of the C library may take, gaps included, in multiples of their own."""


def largest_batch(data: DataModule) -> Batch:
    """Return the part of a step of the first epoch that has the most positions, on this rank."""
    members, parts = data.splits["train"], _parts(data)
    lengths = members.encoded.lengths
    sizes = [int(lengths[part.examples].max()) * len(part.examples) for part in parts]
    tried = {int(np.argmax(sizes)), int(np.argmax([lengths[part.examples].sum() for part in parts]))}
    random = partial(generator_of, data.seed, 0)  # a task may draw further rows for each example
    batches = (data.task.collate(members.examples, members.encoded, parts[n].examples, random) for n in sorted(tried))
    return max(batches, key=lambda batch: batch.positions)


def expected(
    model: nn.Module,
    task: Task,
    batch: Batch,
    state_share: float,
    autocast: Autocast,
    all_logits: bool = False,
) -> dict[str, float]:
    """Return the GiB that a step of a language model on `batch` needs at its peak by purpose; their sum is the peak.

    Nothing changes: neither weights nor gradients, nor the state of the random generators.

    Args:
        model: the model to train, in training mode.
        task: runs it.
        batch: the largest batch.
        state_share: bytes of the optimiser's state for each byte of trained weights.
        autocast: the context of a forward pass, which sets its precision.
        all_logits: whether a regulariser needs the logits of all tokens at once.
    """
    memory = of_parameters(model)
    device = next(model.parameters()).device
    rows, tokens = batch.shape
    lengths = sorted({min(tokens, length) for length in _LENGTHS}) if tokens > _LENGTHS[0] else [tokens]
    words = 0

    def states(length: int) -> Tensor:
        """Return what the model computes of a short row before its logits."""
        nonlocal words
        logits = task.outputs(model, _first_row(batch, length).to(device)).logits
        is_deferred = isinstance(logits, DeferredLogits)
        words = logits[:, :1].full.shape[-1] if is_deferred else logits.shape[-1]
        return logits.hidden if is_deferred else logits

    kept = [_kept(model, partial(states, length), autocast) for length in lengths]
    logits = words * batch.positions if all_logits else min(words * batch.positions, CHUNK)
    return {
        **memory,
        "optimizer_gib": state_share * memory["gradients_gib"],
        "activations_gib": _extended(lengths, kept, rows, tokens),
        "logits_gib": _LOGITS * 4 * logits / _GIB,
    }


def kept_by_largest(model: nn.Module, task: Task, data: DataModule, autocast: Autocast) -> float:
    """Return the GiB that the forward pass of a training step keeps at most in the first epoch, on this rank.

    The model runs over the longest example of the largest part of a step, and over its two longest ones. Nothing
    changes, as in `expected`.
    """
    encoded, static, parts = data.splits["train"].encoded, data.static, _parts(data)
    lengths, rows_of = encoded.lengths, encoded.rows
    heights = [int(rows_of[part.examples].sum()) for part in parts]
    sizes = [height * int(lengths[part.examples].max()) for height, part in zip(heights, parts, strict=True)]
    largest = int(np.argmax(sizes))
    part, rows = parts[largest], heights[largest]
    if static is not None and part.size is not None:
        rows = static.height(rows, part.size)
    longest = sorted(part.examples, key=lambda example: -int(lengths[example]))
    epoch = 0 if data.augmenter is None else None  # changing texts takes time: lengths are those of unchanged ones

    def loss(members: list[int]) -> Tensor:
        batch = data.training_part(Part(members, members, epoch)).to(next(model.parameters()).device)
        return task.loss(task.outputs(model, batch), batch)

    few = [longest[:1], longest[:2]][: len(longest)]
    kept = [_kept(model, partial(loss, members), autocast) for members in few]
    tried = [int(rows_of[members].sum()) for members in few]
    if len(few) == 1:
        return kept[0] * rows / tried[0]
    a_row = max(kept[1] - kept[0], 0.0) / (tried[1] - tried[0])
    return kept[0] + a_row * (rows - tried[0])


def peak_gib(
    device: torch.device, memory: Mapping[str, float], is_whole: bool = True, state_gib: float = 0.0
) -> tuple[float, float]:
    """Return the GiB that this process is to hold at its peak, and what of it `memory` does not tell of.

    On a GPU, that counts tensors on it; elsewhere it is all that the process holds, as in the record's peak.

    Args:
        device: where the model is.
        memory: what a step needs by purpose, the ``weights_gib`` and what is still to come.
        is_whole: whether that is all; else the peak is a lower bound, without gaps in the heap.
        state_gib: what there is of the optimiser's state already, which is part of its own.
    """
    if device.type == "cuda":
        held, most, gaps = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device), 1.0
    else:
        held, most, gaps = held_memory(), peak_memory(), _GAPS if is_whole else 1.0
    there = memory["weights_gib"] + state_gib
    more = sum(memory.values()) - there
    peak = max(max(held / _GIB, there) + gaps * more, most / _GIB)
    return peak, peak - sum(memory.values())


def free_gib(device: torch.device) -> float:
    """Return the GiB that this process can still take on `device`; 0 where the system does not say."""
    if device.type != "cuda":
        return free_memory() / _GIB
    spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return (torch.cuda.mem_get_info(device)[0] + spare) / _GIB


def advice(memory: Mapping[str, float], free: float, device: torch.device, checkpoints: bool) -> str | None:
    """Return what to set where a step is expected to need more memory than there is; None: it fits.

    Args:
        memory: the result of `expected`.
        free: what can still be taken, in GiB, 0 if unknown; the weights are there already.
        device: where the model is.
        checkpoints: whether activations are computed again already.
    """
    more = sum(memory.values()) - memory["weights_gib"]
    if not free or more * (_GAPS if device.type == "cpu" else 1) <= free:
        return None
    choices = ["compute a step in more parts (trainer.accumulate)"]
    choices += [] if checkpoints else ["set trainer.gradient_checkpointing=true"]
    choices += ["shorten rows (data.max_tokens)"]
    if memory["weights_gib"] > memory["activations_gib"]:
        choices += ["store the frozen weights in 4 bits (model.quantize=nf4)"]
    needed = f"a step is expected to need {more:.2f} GiB beside the weights, and {free:.2f} GiB are free"
    return f"{needed}: {', or '.join(choices)}"


def _first_row(batch: Batch, length: int) -> Batch:
    """Return the inputs of the first row of `batch`, as much of each as `length` is of the first one's tokens."""
    rows, tokens = batch.shape

    def cut(tensor: Tensor) -> Tensor:
        if tensor.ndim < 2 or len(tensor) != rows:
            return tensor
        return tensor[:1, : -(-tensor.shape[1] * length // tokens)]

    return replace(batch, inputs={name: cut(tensor) for name, tensor in batch.inputs.items()})


def _kept(model: nn.Module, forward: Callable[[], Tensor], autocast: Autocast) -> float:
    """Return the GiB that a forward pass keeps.

    The backward pass from its result runs too: it computes again what checkpoints leave out.
    """
    device = next(model.parameters()).device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    counting = Activations((*model.parameters(), *model.buffers()))
    devices = [device] if device.type == "cuda" else []
    with uncompiled(model), torch.random.fork_rng(devices), torch.enable_grad(), counting:
        with autocast():
            result = forward()
        if result.requires_grad:
            torch.autograd.grad(result.sum(), trained, allow_unused=True)
    return counting.gib


def _parts(data: DataModule) -> list[Part]:
    """Return this rank's parts of the training steps of the first epoch, without fillers."""
    division = data.training_division
    return [part for batch in data.plan_of() for part in division.of_training_batch(batch) if part.examples]


def _extended(lengths: list[int], kept: list[float], rows: int, tokens: int) -> float:
    """Return what so many rows of so many tokens keep, from what one row of each of `lengths` keeps."""
    curve = np.polynomial.Polynomial.fit(lengths, kept, len(lengths) - 1).convert()
    fixed, *per_row = [float(c) for c in curve.coef]
    if any(c < 0 for c in per_row[1:]):  # measured too small to tell from nothing
        fixed, *per_row = [float(c) for c in np.polynomial.Polynomial.fit(lengths, kept, 1).convert().coef]
    if not per_row:
        return fixed * rows
    return max(fixed, 0.0) + rows * sum(c * tokens**n for n, c in enumerate(per_row, start=1))
