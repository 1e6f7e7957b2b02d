"""What a training minimises, put together in one place: the task's loss, the method's penalty, the regularisers."""

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
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """What each regulariser adds, by its name."""


@dataclass(frozen=True)
class Objective:
    """The objective of a training; call it with a forward pass and a batch."""

    task: Task
    method: Method
    model: nn.Module
    terms: Mapping[str, Term] = field(default_factory=dict)

    def __call__(self, forward: Forward, batch: Batch) -> Losses:
        """Compute `batch` and return what a training minimises on it."""
        outputs = forward(batch)
        total = loss = self.task.loss(outputs, batch)
        penalty = self.method.penalty(self.model)
        if penalty is not None:
            total = total + penalty
        computed = Computed(self.task, self.model, forward, batch, outputs)
        terms = {name: batch.mean(term.losses(computed)) for name, term in self.terms.items()}
        for term in terms.values():
            total = total + term
        return Losses(total, loss, penalty, terms)

    @property
    def differentiates(self) -> bool:
        """Whether computing it takes gradients, so that it cannot be done without."""
        return any(term.from_embeddings for term in self.terms.values())

    def evaluated(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss that an evaluation reports.

        It is the task's alone: penalty and regularisers are means to lower it, and differ between methods, whose losses
        are compared.
        """
        return self.task.loss(outputs, batch).float()
