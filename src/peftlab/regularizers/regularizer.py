"""What a regulariser is: it adds a term to the objective, acts on the weights, or changes how a step is made."""

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
    """Something that a training does beside minimising the loss of its task: a `Term`, `WeightRule` or `StepRule`."""

    def idle(self, model: nn.Module) -> str | None:
        """Return why it has no effect on the training of `model`; None: it has one."""
        return None


@plain_dataclass(frozen=True, slots=True)
class Computed:
    """A batch of the training and what the model has made of it."""

    task: Task
    model: nn.Module
    forward: Callable[[Batch], Any]
    """Runs the model on a batch once more, and returns its outputs."""
    batch: Batch
    outputs: Any
    """Of the pass that the task's loss is taken from."""


@spec
class Term(Regularizer, ABC):
    """Adds to the objective.

    A term is made of one number an example, which does not depend on how a batch is divided: among devices, among the
    passes of `trainer.accumulate`, or into pieces that fit in memory. What is random within it comes from torch's
    generator, as dropout does.
    """

    passes: ClassVar[int] = 0
    """Forward passes that it makes beside that of the task."""
    couples: ClassVar[bool] = False
    """Whether what is added for an example depends on the others in the batch: such a term is another one where batches
    are divided, which is refused."""
    from_embeddings: ClassVar[bool] = False
    """Whether it changes the output of the input embeddings, see `peftlab.regularizers.embeddings`."""

    @abstractmethod
    def losses(self, computed: Computed) -> Tensor:
        """Return what is added for each example, shape (examples,), on the scale of `Task.losses`.

        The objective divides their sum by that of the examples' weights, as it does with those of the task.
        """


@spec
class WeightRule(Regularizer, ABC):
    """Acts on the weights after every step of the optimiser."""

    def begin(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Look at the trained `weights`, by name, before the first step; not when a run is resumed."""

    @abstractmethod
    def after_step(self, weights: Mapping[str, nn.Parameter], learning_rates: Mapping[str, float]) -> None:
        """Change the trained `weights` in place; each has its learning rate of the step that is over."""

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint has to hold so that the run can be resumed."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""


@spec
class StepRule(Regularizer, ABC):
    """Makes the gradient of a step out of several."""

    @abstractmethod
    def gradient(self, ask: Callable[[], Tensor], weights: Sequence[nn.Parameter]) -> Tensor:
        """Leave the gradient of the step in the trained `weights`, and return the loss to report.

        Args:
            ask: puts the gradient at the present weights into them, over the whole step and all ranks, in place of what
                is there; returns this rank's part of the loss.
            weights: what is trained; they have to be as they were in the end.
        """
