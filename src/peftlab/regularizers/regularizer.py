"""The interface of a regulariser: it adds to the objective, or acts on passes, weights, rates or the gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass as plain_dataclass
from dataclasses import field as plain_field
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from peftlab.regularizers.answering import Answering
from peftlab.regularizers.earlier import Earlier
from peftlab.regularizers.repeatable import RepeatablePass
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@plain_dataclass(frozen=True, slots=True)
class Material:
    """What a regulariser may read before the training."""

    task: Task
    examples: Sequence[Any]
    """The training examples as they were read, before any augmentation."""
    weights: Callable[[], np.ndarray]
    """Returns the weight of each in the mean loss, shape (examples,)."""
    format: Any
    """What has read their files, an object of the section ``data.format``."""
    teacher: Callable[[str], Answering]
    """Returns the model of a finished run with the same task, by its folder or the start of its id."""
    earlier: Callable[[str], Earlier] | None = None
    """Returns a finished run, of whatever task, in the same way."""
    memories: Sequence[tuple[str, Sequence[Any]]] = ()
    """The folders of earlier runs, and what is remembered of their examples, each of them once."""
    weights_sha256: str = ""
    """The digest of the pretrained weights."""


@spec
class Regularizer:
    """An addition to minimising the task's loss.

    It is one of a `Term`, `PassRule`, `RateRule`, `WeightRule`, `WeightAverage` or `StepRule`. A step makes one pass
    over its examples, the task's, and those that the regulariser's own class states.
    """

    passes: ClassVar[int] = 0
    """Forward passes of a step in addition to the task's, those of another model that it asks included. A backward pass
    follows each that something is learnt from; one without it counts as much, as compute is held equal by this number.
    """
    neutral: ClassVar[Mapping[str, float]] = {}
    """The values of its options at which it does nothing; one of them suffices."""
    draws: ClassVar[bool] = False
    """Whether it draws random numbers, or needs dropout: then the results of divided batches only agree on average."""
    of_examples: ClassVar[tuple[str, ...]] = ()
    """Options that `prepare` makes definite from the training examples, so that a run with others needs them anew."""
    host_work: ClassVar[str | None] = "its class does not say that the host has no part in it (host_work)"
    """What the host does in every step, so that steps with it cannot be recorded as CUDA graphs: it reads values from
    the device, draws random numbers, or computes with numbers that change from step to step. None: nothing."""

    @property
    def off(self) -> str | None:
        """The option that turns it off, as ``name=value``; such a regulariser is left out. None: it acts."""
        return next((f"{name}={value:g}" for name, value in self.neutral.items() if getattr(self, name) == value), None)

    def prepare(self, material: Material) -> None:
        """Read what it needs of the training examples; called once before the training, also of a resumed run.

        Raises:
            UserError: it cannot work with this task or data.
        """

    def resolved(self) -> dict[str, Any]:
        """Return the options of the configuration that `prepare` has made definite, with their values."""
        return {}

    def idle(self, model: nn.Module) -> str | None:
        """Return why it cannot have an effect on the training of `model`; None: it can."""
        return None

    def acted(self) -> Mapping[str, float | Tensor] | None:
        """Return figures of its last action, for the record: how many weights it touched, how far it moved them.

        None: its turn is yet to come. A figure of 0 is an error: it did nothing. What a `Term` tells with
        `Computed.tell` is recorded too.
        """
        return {}

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint needs to resume the run."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""


@plain_dataclass(frozen=True, slots=True)
class Computed:
    """A training batch and the model's outputs for it."""

    task: Task
    model: nn.Module
    forward: Callable[[Batch], Any]
    """Runs the model on a batch again, with new random numbers, and returns its outputs."""
    batch: Batch
    outputs: Any
    """Outputs of the pass that the task's loss is computed from."""
    first: RepeatablePass | None = None
    """That pass, for terms with `Term.from_embeddings`: it can be repeated with changed embeddings."""
    figures: dict[str, Tensor] = plain_field(default_factory=dict)
    """What the term has told, summed over the examples with weight."""
    share: float = 1.0
    """The share of the task's loss that no term replaces."""

    def tell(self, **figures: Tensor) -> None:
        """Note figures of what the term did, each of shape (examples,), for the record.

        Those of a term that learns from them, see `Term.learns`, may have more dimensions.
        """
        counted = self.batch.weights > 0
        for name, values in figures.items():
            own = counted.view(-1, *[1] * (values.dim() - 1))
            self.figures[name] = (values.detach() * own).sum(0)

    @property
    def repeatable(self) -> RepeatablePass:
        """The pass that can be repeated with changed embeddings."""
        assert self.first is not None, "a term that says `from_embeddings` has it"
        return self.first


@spec
class Term(Regularizer, ABC):
    """Adds to the objective.

    A term is one number per example, which does not depend on how a batch is divided: among devices, among the passes
    of `trainer.accumulate`, or into pieces that fit in memory. Its random numbers come from torch's generator, as those
    of dropout do.
    """

    start_step: int = Field(default=1, ge=1)
    """The first optimiser step of which it is part."""
    couples: ClassVar[bool] = False
    """Whether the term of an example depends on the others in the batch: such a term changes when batches are divided,
    so that combination is refused."""
    of_distributions: ClassVar[bool] = False
    """Whether it needs the distributions over classes that the task predicts, see `Task.distributions`."""
    from_embeddings: ClassVar[bool] = False
    """Whether it changes the output of the input embeddings, see `peftlab.regularizers.repeatable`."""
    from_gradient: ClassVar[bool] = False
    """Whether it needs the gradient of the task's loss at the embeddings, `RepeatablePass.gradient`."""
    reads_weights: ClassVar[bool] = False
    """Whether it reads the trained weights, which must then be whole on each device."""
    waits: ClassVar[bool] = False
    """Whether it may be 0 in a step, as before the weights have moved: its action is then looked for in later ones."""
    learns: ClassVar[bool] = False
    """Whether it changes from step to step, by what it has told, see `after_step`."""

    @property
    def replaces(self) -> float:
        """The share of the task's own loss that it takes the place of, 0 to 1."""
        return 0.0

    @property
    def reads_layers(self) -> bool:
        """Whether it reads the hidden states of all layers, so that none may be skipped."""
        return False

    def set_up(self, model: nn.Module) -> None:
        """Load what the term needs beside `model`, and have that give all that the term reads of its outputs.

        Called once before the training, after `prepare`.

        Raises:
            UserError: it cannot work with this model.
        """

    @abstractmethod
    def losses(self, computed: Computed) -> Tensor:
        """Return the term of each example, shape (examples,), on the scale of `Task.losses`.

        The objective divides their sum by the sum of the examples' weights, as it does with the task's losses.
        """

    def after_step(self, told: Mapping[str, Tensor]) -> None:
        """Learn from a step that was taken, if it `learns`.

        Args:
            told: by name, the sums of what `losses` told in this step, over all its examples on all ranks.
        """


@spec
class PassRule(Regularizer, ABC):
    """Changes the model's forward passes in training; evaluations use the model as it is."""

    from_embeddings: ClassVar[bool] = False
    """Whether it changes the output of the input embeddings."""
    checkpointable: ClassVar[bool] = True
    """Whether `trainer.gradient_checkpointing` may compute activations again outside `applied`; else it is refused."""

    @abstractmethod
    def applied(self, model: nn.Module, batch: Batch) -> AbstractContextManager[None]:
        """Return a context in which forward passes of `model`, over `batch`, are changed.

        Random numbers come from torch's generator, as those of dropout do. The names of parameters stay the same.
        """

    def begin(self, model: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
        """Read the trained `weights`, by name, before the first step; not called when a run is resumed."""


@spec
class RateRule(Regularizer, ABC):
    """Sets learning rates."""

    @abstractmethod
    def factors(self, model: nn.Module, head: Collection[str]) -> Mapping[str, float]:
        """Return the factor on the learning rate of each trained parameter of `model`, by name; 1 if left out.

        Args:
            model: the model to train, with the parameters that are trained marked by ``requires_grad``.
            head: names of the modules that make up the task's head.
        """


@spec
class WeightRule(Regularizer, ABC):
    """Acts on the weights, or on their gradients, at every optimiser step: `before_step`, `after_step` or both."""

    def begin(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Read the trained `weights`, by name, before the first step; not called when a run is resumed."""

    def before_step(self, weights: Mapping[str, nn.Parameter], step: int, random: torch.Generator) -> None:
        """Change the gradients of the trained `weights` in place, after clipping.

        Args:
            weights: by name; their ``grad`` is that of the step, the same on all ranks.
            step: the number of the step, from 1.
            random: a generator on the CPU, a function of the run's seed, the rule and the step, the same on all ranks.
        """

    def after_step(self, weights: Mapping[str, nn.Parameter], learning_rates: Mapping[str, float]) -> None:
        """Change the trained `weights` in place.

        Args:
            weights: by name.
            learning_rates: those of the step just taken, by name. Where the rule has no `host_work`, they may be
                scalars on the device, which are 0 if the device has left out the step: the rule then changes nothing.
        """


@spec
class WeightAverage(Regularizer, ABC):
    """Keeps an average of the trained weights, which is evaluated and kept in their place."""

    @abstractmethod
    def begin(self, weights: Mapping[str, Tensor]) -> None:
        """Read the trained `weights` before the first step; not called when a run is resumed.

        They are all tensors that a checkpoint holds, by name: trained parameters, and buffers that change.
        """

    @abstractmethod
    def after_step(self, weights: Mapping[str, Tensor], step: int, steps: int) -> None:
        """Add `weights` to the average.

        Args:
            weights: as in `begin`.
            step: the number of the step just taken, from 1.
            steps: the number of all steps of the run.
        """

    @abstractmethod
    def averaged(self) -> Mapping[str, Tensor]:
        """Return the averages by name; of a weight that is left out, its present value is used."""


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


def key_of(name: str) -> str:
    """Return the dotted key of a regulariser: the term of unlabelled texts, ``semi``, has a section of its own."""
    return name if name == "semi" else f"regularizer.{name}"


KINDS = (Term, PassRule, RateRule, WeightRule, WeightAverage, StepRule)
"""The kinds of regulariser."""
