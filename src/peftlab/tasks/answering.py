"""The part of a task that answers: what a model finds in texts, or writes, and what its user gets of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from peftlab.errors import ConfigError
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.outputs.deferred_logits import deferred_logits
from peftlab.tasks.outputs.mixing import Members, Mixture

if TYPE_CHECKING:
    from peftlab.tasks.batch import Batch
    from peftlab.tasks.processor import Processor
    from peftlab.tasks.task import Encoded


class Answering(ABC):
    """The answers of a `Task`, in evaluations and to whoever uses the finished model."""

    name: str
    head: ClassVar[Head]
    generates: ClassVar[bool]

    @abstractmethod
    def from_input(self, fields: Mapping[str, Any], id: str) -> Any:
        """Return an example without gold from `fields`: ``text``, and others that the task takes.

        Raises:
            DataError: a required field is missing or of the wrong type; the message says what is expected.
        """

    @abstractmethod
    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the answer to each example, as JSON values.

        Each has ``id``, ``input``, ``gold``, ``predicted`` and ``probability`` (None where there is none), and any
        other fields that `kept` and `reply` use.

        Args:
            outputs: the model's outputs, as transformers returns them.
            batch: the model's input; not a filler.
            model: the model, for tasks that generate.
            final: whether the answers are kept or returned. Validations during training only score them, and leave out
                slow fields that the scores do not need.
        """

    def outputs(self, model: Any, batch: Batch) -> Any:
        """Return the outputs of `model` for a batch, in transformers' form, which `losses` and `answers` read.

        The logits of a task that generates are `DeferredLogits`. Those of several models as one are mixed, see `mixed`.
        """
        if isinstance(model, Members):
            return self.mixed(self.outputs_of_each(model, batch), model.mixture, batch)
        with deferred_logits(model) if self.generates else nullcontext():
            return model(**batch.inputs)

    def outputs_of_each(self, model: Members, batch: Batch) -> list[Any]:
        """Return the outputs of each member of `model` for a batch."""
        if self.generates or any(isinstance(member, Members) for member in model.members):
            return [self.outputs(member, batch) for member in model.members]
        return model.each(batch.inputs)

    def mixed(self, outputs: Sequence[Any], mixture: Mixture, batch: Batch | None = None) -> Any:
        """Return the outputs of several models as those of one, which `losses` and `answers` read.

        By default, distributions over classes, tokens or words are mixed, as are the probabilities of several labels;
        numbers are averaged. A task whose distributions are over other things overrides this.

        Args:
            outputs: of each model, in transformers' form.
            mixture: how to mix them.
            batch: their input; None: unknown, as in a plain forward pass.

        Raises:
            UserError: outputs of this kind cannot be mixed so.
        """
        return mixture.of_head(outputs, self.head)

    def answers_without_gold(self, batch: Batch, model: Any) -> list[dict[str, Any]]:
        """Return the final answer to each example of a batch that has no gold, as `answers` does.

        By default they are read off one forward pass. A task that only generates its answers overrides this, as it
        needs no outputs where there is no loss.
        """
        return self.answers(self.outputs(model, batch), batch, model, final=True)

    def stream(self, batch: Batch, model: Any) -> Generator[str, None, bool]:
        """Yield the text that the model writes to the only example of `batch`, piece by piece, as it is generated.

        The pieces join to the text of `answers_without_gold`.

        Returns:
            whether the model ended it.

        Raises:
            ConfigError: the task writes no text.
        """
        raise ConfigError(f"task={self.name} writes no text that could be streamed. Use `predict` without --stream")

    def check_model(self, model: Any) -> None:  # noqa: B027
        """Check that `model` can answer as the options say, before it is trained.

        Raises:
            ConfigError: it cannot.
        """

    def prepare_export(self, model: Any, processor: Processor) -> None:  # noqa: B027
        """Set in a plain model and its processor what transformers' pipelines need to answer as the task does."""

    def kept(self, example: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer as a run stores it: with the ``group`` of the example."""
        return {**answer, "group": getattr(example, "group", None)}

    @abstractmethod
    def reply(self, example: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer as a user of the model gets it, without the gold, as JSON values."""

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return the fields of an answer that describe the part of its example that the model does not see, if any."""
        return {}
