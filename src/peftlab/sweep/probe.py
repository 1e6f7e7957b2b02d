"""What a trial is going to take: some of its steps and batches of its evaluation are tried, and nothing is kept."""

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
from peftlab.tasks.batch import Batch
from peftlab.training.step import Step

START_SECONDS = 2.0
"""What a trial takes besides training and evaluating: reading, building, writing."""

_BYTES_A_PREDICTION = 2_000
_STATE = 3
"""Numbers that a checkpoint holds for each trained one: itself and two moments."""
_KEPT = 2
"""Checkpoints at a time."""
_TRIED = 24
"""Batches at most, from all over the data."""


def probe(cfg: DictConfig, seconds: float) -> tuple[float, int, int]:
    """Return the seconds that the run of `cfg` is expected to take, and the bytes it keeps and occupies meanwhile.

    Steps and batches of the evaluation are tried for `seconds` together; what a token takes is what counts, for batches
    differ in length.
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

    lengths = {split: float(data.splits[split].encoded.lengths.sum()) for split in data.evaluated}
    epoch = len(data.train_dataloader())
    epochs = min(spec.budget.max_epochs or math.inf, (spec.budget.max_steps or math.inf) / epoch)
    validations = math.ceil(epochs * epoch / data.validation_interval()) + 1
    trained_tokens = epochs * lengths["train"]
    evaluated_tokens = validations * lengths["validation"] + lengths.get("test", 0.0)
    tuner.train()
    took = START_SECONDS + trained_tokens * _seconds_a_token(train, data.train_dataloader(), 2 * seconds / 3, device)
    tuner.eval()
    took += evaluated_tokens * _seconds_a_token(evaluate, data.val_dataloader(), seconds / 3, device)
    size = 4 * sum(parameter.numel() for parameter in trained)
    rows = sum(data.splits[split].rows for split in data.evaluated if split != "train")
    return took, 2 * size + _BYTES_A_PREDICTION * rows, _KEPT * _STATE * size


def _seconds_a_token(work: Callable[[Any], None], loader: DataLoader[Any], limit: float, device: torch.device) -> float:
    """Return how long `work` takes for a token, having tried some batches of the loader for `limit` seconds."""
    tokens, spent = 0, 0.0
    for number, batch in enumerate(islice(loader, 0, None, max(1, len(loader) // _TRIED))):
        began = time.perf_counter()
        work(batch)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number or len(loader) == 1:  # the first one pays for what is done once
            spent += time.perf_counter() - began
            tokens += sum(part.tokens for part in batch) if isinstance(batch, list) else batch.tokens
        if spent > limit:
            break
    return spent / tokens
