"""The memory that the training of a language model will need at its peak, before its first step.

A step over a whole batch may be what does not fit. So the model runs over one row of a few tokens, at three lengths:
what a forward pass keeps for the backward pass is the same part for any batch, a part for each token, and, where
attention is computed without a fused kernel, a part for each pair of tokens of a row.

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
from torch.optim import SGD, Optimizer

from peftlab.data.batching import generator_of
from peftlab.data.module import DataModule
from peftlab.devices.free_memory import free_memory
from peftlab.tasks.batch import Batch
from peftlab.tasks.losses.token_losses import CHUNK
from peftlab.tasks.outputs.deferred_logits import DeferredLogits
from peftlab.tasks.task import Task
from peftlab.training.footprint import Activations, of_parameters

_GIB = 2**30
_LENGTHS = (32, 64, 128)
"""Tokens of the rows that are tried; shorter ones if the batch has no such rows."""
_LOGITS = 3
"""Tensors of the size of the logits that exist at a time, in fp32: themselves, their softmax, and the gradient."""
_GAPS = 1.5
"""The memory that tensors in the heap of the C library may take, gaps included, in multiples of their own."""


def largest_batch(data: DataModule) -> Batch:
    """Return the part of a step of the first epoch that has the most positions, on this rank."""
    members, division = data.splits["train"], data.training_division
    parts = [part for batch in data.plan_of() for part in division.of_training_batch(batch) if part.examples]
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
    optimizer: Optimizer,
    autocast: Callable[[], AbstractContextManager[object]],
    all_logits: bool = False,
) -> dict[str, float]:
    """Return the GiB that a step on `batch` needs at its peak by purpose; their sum is the peak.

    Nothing changes: neither weights nor gradients, nor the state of the random generators.

    Args:
        model: the model to train, in training mode.
        task: runs it.
        batch: the largest batch.
        optimizer: its state is taken to be two moments for each weight, of SGD one with momentum and none without.
        autocast: the context of a forward pass, which sets its precision.
        all_logits: whether a regulariser needs the logits of all tokens at once.
    """
    memory = of_parameters(model)
    device = next(model.parameters()).device
    rows, tokens = batch.shape
    lengths = sorted({min(tokens, length) for length in _LENGTHS}) if tokens > _LENGTHS[0] else [tokens]
    kept, words = list[float](), 0
    for length in lengths:
        gib, words = _kept(model, task, _first_row(batch, length).to(device), autocast)
        kept.append(gib)
    moments = int(optimizer.defaults.get("momentum", 0) > 0) if isinstance(optimizer, SGD) else 2
    logits = words * batch.positions if all_logits else min(words * batch.positions, CHUNK)
    return {
        **memory,
        "optimizer_gib": moments * memory["gradients_gib"],
        "activations_gib": _extended(lengths, kept, rows, tokens),
        "logits_gib": _LOGITS * 4 * logits / _GIB,
    }


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


def _kept(
    model: nn.Module, task: Task, batch: Batch, autocast: Callable[[], AbstractContextManager[object]]
) -> tuple[float, int]:
    """Return the GiB that a forward pass keeps, without the logits, and the number of words of the vocabulary.

    The backward pass runs too: it computes again what checkpoints leave out.
    """
    device = batch.weights.device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    counting = Activations((*model.parameters(), *model.buffers()))
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad(), counting:
        with autocast():
            logits = task.outputs(model, batch).logits
            deferred = isinstance(logits, DeferredLogits)
            states = logits.hidden if deferred else logits
            words = logits[:, :1].full.shape[-1] if deferred else logits.shape[-1]
        if states.requires_grad:
            torch.autograd.grad(states.sum(), trained, allow_unused=True)
    return counting.gib, words


def _extended(lengths: list[int], kept: list[float], rows: int, tokens: int) -> float:
    """Return what so many rows of so many tokens keep, from what one row of each of `lengths` keeps."""
    curve = np.polynomial.Polynomial.fit(lengths, kept, len(lengths) - 1).convert()
    fixed, *per_row = [float(c) for c in curve.coef]
    if any(c < 0 for c in per_row[1:]):  # measured too small to tell from nothing
        fixed, *per_row = [float(c) for c in np.polynomial.Polynomial.fit(lengths, kept, 1).convert().coef]
    if not per_row:
        return fixed * rows
    return max(fixed, 0.0) + rows * sum(c * tokens**n for n, c in enumerate(per_row, start=1))
