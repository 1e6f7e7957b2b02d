"""The loop that anyone would write in PyTorch: what a run of peftlab is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn


def autocast(device: torch.device | str, precision: str) -> torch.autocast:
    """Return the context of a forward pass in `precision` on `device`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16-mixed")


def plain_steps(
    model: nn.Module,
    head: Sequence[str],
    spec: Any,
    batches: Iterable[Any],
    steps: int,
    device: torch.device | str = "cpu",
) -> Iterator[None]:
    """Train `model` on `batches` as a run of `spec` does, and do no more: nothing is checked, logged or kept.

    Yields after each step, when the host is through with it.

    Args:
        model: the model with head and method, on `device`.
        head: the parts of it that are its head.
        spec: the specification of the run.
        batches: those of `peftlab.tasks.batch.Batch`, one for each step.
        steps: their number, which the schedule needs.
        device: where it trains.
    """
    model.train()
    optimizer = spec.optimizer.attach(model, head)
    schedule = spec.scheduler.attach(optimizer, steps)
    trained = [p for p in model.parameters() if p.requires_grad]
    for host_batch in batches:
        batch = host_batch.to(torch.device(device))
        with autocast(device, spec.trainer.precision):
            outputs = model(**batch.inputs)
            if batch.factors is None:
                loss = spec.task.loss(outputs, batch)
            else:
                loss = batch.mean(spec.task.losses(outputs, batch))
        loss.backward()
        nn.utils.clip_grad_norm_(trained, spec.trainer.clip_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        yield
