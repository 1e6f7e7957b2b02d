"""The training objective: the task's loss, the method's penalty and the regularisers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn

from peftlab.methods.method import Method
from peftlab.regularizers.regularizer import Computed, Term
from peftlab.regularizers.repeatable import RepeatablePass
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task

Forward = Callable[[Batch], Any]
"""Runs the model on a batch and returns its outputs in transformers' form."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of one batch, scalars."""

    total: Tensor
    """The minimised loss: the sum of the others, the task's less the shares that terms replace."""
    task: Tensor
    """The mean loss of the task."""
    penalty: Tensor | None = None
    """The method's penalty; None: it has none."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """The term of each regulariser, by name."""
    figures: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """What each term has told of its action, summed over the examples with weight."""


@dataclass(frozen=True)
class Objective:
    """The objective of a training; call it with a forward pass and a batch."""

    task: Task
    method: Method
    model: nn.Module
    terms: Mapping[str, Term] = field(default_factory=dict)
    special: Tensor | None = None
    """The ids of special tokens, which no term perturbs, shape (ids,)."""

    def __call__(
        self, forward: Forward, batch: Batch, step: int | None = None, loss_scale: Tensor | None = None
    ) -> Losses:
        """Return the losses of `batch`.

        Args:
            forward: runs the model.
            batch: on the model's device.
            step: the number of the step, from 1; terms that start later are left out. None: all are part of it.
            loss_scale: the factor by which fp16 keeps gradients above zero, a scalar.
        """
        terms = {name: term for name, term in self.terms.items() if step is None or step >= term.start_step}
        differentiated = any(term.from_gradient for term in terms.values())
        first = None
        if any(term.from_embeddings for term in terms.values()):
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            first = RepeatablePass(self.model, forward, batch, trained, self.special, loss_scale, differentiated)
        outputs = forward(batch) if first is None else first.outputs
        loss = self._of_task(outputs, batch)
        if first is not None and differentiated:
            loss = first.differentiate(loss, keep_graph=not all(term.from_gradient for term in terms.values()))
        replaced = sum(term.replaces for term in terms.values())
        total = loss * (1 - replaced) if replaced else loss
        penalty = self.method.penalty(self.model)
        if penalty is not None:
            total = total + penalty
        added, figures = dict[str, Tensor](), dict[str, Mapping[str, Tensor]]()
        for name, term in terms.items():
            computed = Computed(self.task, self.model, forward, batch, outputs, first, share=1 - replaced)
            added[name] = batch.mean(term.losses(computed))
            total = total + added[name]
            figures[name] = computed.figures
        return Losses(total if first is None else first.spoilt(total), loss, penalty, added, figures)

    def has_begun(self, step: int) -> bool:
        """Return whether this step may be recorded: a recording would lack for good what begins later, and the step
        with which a term begins is counted by `Cost`, which would count a recording more than once.
        """
        return all(step >= term.start_step for term in self.terms.values()) and not self.begins(step)

    def begins(self, step: int) -> bool:
        """Return whether a term takes part from this step on, and none from the first: steps are of more arithmetic."""
        return step > 1 and any(step == term.start_step for term in self.terms.values())

    @property
    def learns(self) -> bool:
        """Whether a term changes from step to step."""
        return any(term.learns for term in self.terms.values())

    def after_step(self, figures: Mapping[str, Mapping[str, Tensor]], strategy: Strategy) -> None:
        """Let the terms that learn do so from a step that was taken.

        Args:
            figures: what each term told in it, summed over this rank's examples.
            strategy: sums over ranks.
        """
        for name, told in figures.items():
            if self.terms[name].learns:
                sums = {key: strategy.reduce(own, reduce_op="sum") for key, own in told.items()}
                self.terms[name].after_step(sums)

    def _of_task(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the task; a task may compute it in one kernel, which knows no factors of examples."""
        if batch.factors is None:
            return self.task.loss(outputs, batch)
        return batch.mean(self.task.losses(outputs, batch))

    @property
    def differentiates(self) -> bool:
        """Whether computing the objective itself needs gradients."""
        return any(term.from_embeddings for term in self.terms.values())


def evaluated(task: Task, outputs: Any, batch: Batch) -> Tensor:
    """Return the loss that an evaluation reports.

    It is the task's alone: penalty and regularisers are means to lower it, and would make the losses of methods
    incomparable.
    """
    return task.loss(outputs, batch).float()
