"""The training objective: the task's loss, the method's penalty and the regularisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from peftlab.methods.method import Method
from peftlab.regularizers.regularizer import Computed, Term
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task

Forward = Callable[[Batch], Any]
"""Runs the model on a batch and returns its outputs in transformers' form."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of one batch, scalars."""

    total: Tensor
    """The minimised loss: the sum of the others."""
    task: Tensor
    """The mean loss of the task."""
    penalty: Tensor | None = None
    """The method's penalty; None: it has none."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """The term of each regulariser, by name."""


@dataclass(frozen=True)
class Objective:
    """The objective of a training; call it with a forward pass and a batch."""

    task: Task
    method: Method
    model: nn.Module
    terms: Mapping[str, Term] = field(default_factory=dict)

    def __call__(self, forward: Forward, batch: Batch) -> Losses:
        """Return the losses of `batch`."""
        outputs = forward(batch)
        total = loss = self._of_task(outputs, batch)
        penalty = self.method.penalty(self.model)
        if penalty is not None:
            total = total + penalty
        computed = Computed(self.task, self.model, forward, batch, outputs)
        terms = {name: batch.mean(term.losses(computed)) for name, term in self.terms.items()}
        for term in terms.values():
            total = total + term
        return Losses(total, loss, penalty, terms)

    def _of_task(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the task; a task may compute it in one kernel, which knows no factors of examples."""
        if batch.factors is None:
            return self.task.loss(outputs, batch)
        return batch.mean(self.task.losses(outputs, batch))

    @property
    def differentiates(self) -> bool:
        """Whether computing the objective itself needs gradients."""
        return any(term.from_embeddings for term in self.terms.values())

    def evaluated(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss that an evaluation reports.

        It is the task's alone: penalty and regularisers are means to lower it, and would make the losses of methods
        incomparable.
        """
        return self.task.loss(outputs, batch).float()
