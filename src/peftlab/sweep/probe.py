"""Estimates the cost of a trial from a few training steps and evaluation batches; keeps nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from omegaconf import DictConfig
from torch.utils.data import DataLoader

from peftlab.assembly import store_and_compile
from peftlab.devices.spec import AUTOCAST
from peftlab.one_run import build, prepare
from peftlab.speed.attention import attention_kernels
from peftlab.tasks.batch import Batch
from peftlab.training.step import Step

START_SECONDS = 2.0
"""Time besides training and evaluation: reading, building, writing."""

_BYTES_A_PREDICTION = 2_000
_STATE = 3
"""Numbers in a checkpoint per trained parameter: itself and two moments."""
_KEPT = 2
"""Checkpoints on disk at a time."""
_TRIED = 24
"""Maximum number of batches, spread over the data."""
MOST_PACKED = 16
"""Trials in a pack that `sweep.pack=auto` chooses: beyond, a GPU that runs small models has little idle time left."""
_OF_MEMORY = 0.8
"""The part of a GPU's memory that a pack may take: the longest batch may be missing among those that were tried."""


def probe(cfg: DictConfig, seconds: float) -> tuple[float, int, int, int, int]:
    """Return the fields of an `Estimate` for the run of `cfg`.

    Training steps and evaluation batches run for `seconds` in total. Time is measured per token, because batches differ
    in length.
    """
    ready = prepare(cfg)
    tuner, spec, data = build(ready), ready.spec, ready.data
    store_and_compile(tuner.model, spec.trainer)
    device = torch.device("cuda" if spec.trainer.accelerator == "gpu" else "cpu")
    optimizer = spec.optimizer.attach(tuner.to(device).model, tuner.context.head)
    trained = [parameter for parameter in tuner.model.parameters() if parameter.requires_grad]
    dtype = AUTOCAST.get(spec.trainer.precision)
    autocast = torch.autocast(device.type, dtype, enabled=dtype is not None)

    def train(parts: list[Batch]) -> None:
        tuner.take_gradient(Step(parts, trained, tuner.guards.training, lambda: autocast))
        optimizer.step()
        optimizer.zero_grad()

    def evaluate(batch: Batch) -> None:
        with torch.inference_mode(), autocast:
            tuner(batch.to(device))

    lengths = {split: float(data.splits[split].encoded.lengths.sum()) for split in data.used}
    epoch = len(data.train_dataloader())
    epochs = spec.steps(epoch) / epoch
    validations = math.ceil(epochs * epoch / data.validation_interval()) + 1
    trained_tokens = epochs * lengths["train"]
    evaluated_tokens = validations * lengths["validation"] + lengths.get("test", 0.0)
    with attention_kernels(spec.trainer.cudnn_attention, spec.trainer.static_shapes is True):
        tuner.train()
        took = START_SECONDS + trained_tokens * _seconds_a_token(
            train, data.train_dataloader(), 2 * seconds / 3, device
        )
        tuner.eval()
        took += evaluated_tokens * _seconds_a_token(evaluate, data.val_dataloader(), seconds / 3, device)
    size = 4 * sum(parameter.numel() for parameter in trained)
    rows = sum(data.splits[split].rows for split in data.budget.scored)
    pack = 1
    if device.type == "cuda":
        shared = sum(p.numel() * p.element_size() for p in tuner.model.parameters() if not p.requires_grad)
        peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(device).total_memory
        pack = trials_that_fit(total, shared, peak - shared)
    return took, 2 * size + _BYTES_A_PREDICTION * rows, _KEPT * _STATE * size, spec.passes, pack


def trials_that_fit(total: int, shared: int, own: int) -> int:
    """Return how many trials to pack on a device, from 1 to `MOST_PACKED`.

    Args:
        total: its memory, in bytes.
        shared: what all of them need once: the frozen weights.
        own: what each needs beside.
    """
    return max(1, min(MOST_PACKED, int((_OF_MEMORY * total - shared) // max(own, 1))))


def _seconds_a_token(work: Callable[[Any], None], loader: DataLoader[Any], limit: float, device: torch.device) -> float:
    """Return the seconds per token of `work`, measured on batches of the loader for `limit` seconds."""
    tokens, spent = 0, 0.0
    for number, batch in enumerate(islice(loader, 0, None, max(1, len(loader) // _TRIED))):
        began = time.perf_counter()
        work(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number or len(loader) == 1:  # the first includes one-time costs
            spent += time.perf_counter() - began
            tokens += sum(part.tokens for part in batch) if isinstance(batch, list) else batch.tokens
        if spent > limit:
            break
    return spent / tokens
