"""The interface of a regulariser: it adds a term to the objective, acts on the weights, or changes the gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@spec
class Regularizer:
    """An addition to minimising the task's loss: a `Term`, `WeightRule` or `StepRule`."""

    def idle(self, model: nn.Module) -> str | None:
        """Return why it has no effect on the training of `model`; None: it has an effect."""
        return None


@plain_dataclass(frozen=True, slots=True)
class Computed:
    """A training batch and the model's outputs for it."""

    task: Task
    model: nn.Module
    forward: Callable[[Batch], Any]
    """Runs the model on a batch again and returns its outputs."""
    batch: Batch
    outputs: Any
    """Outputs of the pass that the task's loss is computed from."""


@spec
class Term(Regularizer, ABC):
    """Adds to the objective.

    A term is one number per example, which does not depend on how a batch is divided: among devices, among the passes
    of `trainer.accumulate`, or into pieces that fit in memory. Its random numbers come from torch's generator, as those
    of dropout do.
    """

    passes: ClassVar[int] = 0
    """Forward passes that it makes in addition to the task's."""
    couples: ClassVar[bool] = False
    """Whether the term of an example depends on the others in the batch: such a term changes when batches are divided,
    so that combination is refused."""
    from_embeddings: ClassVar[bool] = False
    """Whether it changes the output of the input embeddings, see `peftlab.regularizers.embeddings`."""

    @abstractmethod
    def losses(self, computed: Computed) -> Tensor:
        """Return the term of each example, shape (examples,), on the scale of `Task.losses`.

        The objective divides their sum by the sum of the examples' weights, as it does with the task's losses.
        """


@spec
class WeightRule(Regularizer, ABC):
    """Acts on the weights after every optimiser step."""

    def begin(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Read the trained `weights`, by name, before the first step; not called when a run is resumed."""

    @abstractmethod
    def after_step(self, weights: Mapping[str, nn.Parameter], learning_rates: Mapping[str, float]) -> None:
        """Change the trained `weights` in place; `learning_rates` are those of the step just taken, by name."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs to resume the run."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""


@spec
class StepRule(Regularizer, ABC):
    """Computes the gradient of a step from several."""

    @abstractmethod
    def gradient(self, ask: Callable[[], Tensor], weights: Sequence[nn.Parameter]) -> Tensor:
        """Leave the gradient of the step in the trained `weights`, and return the loss to report.

        Args:
            ask: sets the weights' gradients, replacing the old ones, to those at the current weights over the whole
                step and all ranks; returns this rank's part of the loss.
            weights: the trained weights; they must be unchanged on return.
        """
