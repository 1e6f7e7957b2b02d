"""What a training minimises, put together in one place: the task's loss, the method's penalty, the regularisers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from peftlab.methods.method import Method
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task

Forward = Callable[[Batch], Any]
"""Runs the model on a batch and returns its outputs, as transformers has them."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of one batch, scalars."""

    total: Tensor
    """What is minimised: the sum of the others."""
    task: Tensor
    """The mean loss of the task."""
    penalty: Tensor | None = None
    """What the method adds; None: nothing."""


@dataclass(frozen=True)
class Objective:
    """The objective of a training; call it with a forward pass and a batch."""

    task: Task
    method: Method
    model: nn.Module

    def __call__(self, forward: Forward, batch: Batch) -> Losses:
        """Compute `batch` and return what a training minimises on it."""
        loss = self.task.loss(forward(batch), batch)
        penalty = self.method.penalty(self.model)
        return Losses(loss if penalty is None else loss + penalty, loss, penalty)

    def evaluated(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss that an evaluation reports.

        It is the task's alone: penalty and regularisers are means to lower it, and differ between methods, whose losses
        are compared.
        """
        return self.task.loss(outputs, batch).float()
