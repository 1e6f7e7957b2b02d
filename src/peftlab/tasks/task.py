"""What a task is: encoding, loss, answers and their scorer. Plain PyTorch, without Lightning or Hydra."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.scores.scorer import Direction, Scorer
from peftlab.tasks.batch import Batch
from peftlab.tasks.heads import Head
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor, ProcessorKind

IGNORED = -100
"""The label of what has no part in the loss."""

LONGEST_TEXT = 1_000_000
"""Characters of one text, a book of 400 pages: to tokenise it takes the memory of a small model, whatever is kept."""

Random = Callable[[int], np.random.Generator]
"""Gives the generator of the example at an index: a function of the seed, the epoch and the example, so that what is
drawn from it does not depend on who else is in the batch, nor on how batches are divided."""

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@spec
class Selection:
    """Which checkpoint is the best."""

    metric: str
    """The name of a score of the task, or ``loss``, on the validation split."""
    mode: Direction | None = None
    """Whether more is better: what the metric is, which None stands for."""


@plain_dataclass(frozen=True, slots=True)
class Encoded:
    """A split as the model sees it: flat arrays, so that it is stored and loaded without loss or pickling."""

    arrays: dict[str, np.ndarray]
    lengths: np.ndarray
    """Tokens of each example, shape (examples,); batches are sorted by it."""
    padding: int
    """The token id that fills a row."""
    counts: dict[str, int]
    """What the record says of the split, e.g. words, truncated words."""

    @property
    def rows(self) -> np.ndarray:
        """Rows of each example, shape (examples,): several, where a long one is split."""
        return np.diff(self.arrays["examples"]) if "rows" in self.arrays else np.ones_like(self.lengths)


def check_size(characters: int, place: str = "") -> None:
    """Check that a text is not so long that tokenising it would take all memory.

    Raises:
        DataError: it is; names its `place`, where that is said.
    """
    if characters > LONGEST_TEXT:
        where = f"{place}: " if place else ""
        raise DataError(
            f"{where}a text of {characters:,} characters; at most {LONGEST_TEXT:,} are taken. Divide it: a model sees "
            "no more than the first data.max_tokens tokens of a long text, or each of its parts by itself"
        )


@spec
class Task(ABC):
    """One kind of problem: from examples to a loss, and from a model's outputs to answers.

    A task does no I/O. Before anything else is asked of it, it is told its processor (`bind`) and its labels
    (`learn_labels`).
    """

    name: str
    """Of the task, in the record and in the names of folders."""
    selection: Selection
    """Which checkpoint is the best."""
    labels: list[str] = field(default_factory=list, init=False)
    """The classes in the order of the logits, as `learn_labels` finds them; none where the task has no classes."""

    head: ClassVar[Head]
    """Which head of transformers the backbone gets."""
    example: ClassVar[type]
    """What an example is; a data set's format has to give these."""
    processor: ClassVar[ProcessorKind] = "tokenizer"
    """What the examples are encoded with."""
    limited_by: ClassVar[frozenset[str]] = frozenset({"max_tokens", "long"})
    """Which fields of `Limits` the encoding obeys."""
    encoded_by: ClassVar[frozenset[str]] = frozenset()
    """Which options of the task, its own fields, the encoding depends on."""

    def __post_init__(self) -> None:
        """Check what the selection names, and settle its direction."""
        known = list(self.directions)
        if self.selection.metric not in known:
            raise ConfigError(
                f"task.selection.metric = '{self.selection.metric}' is no score of {self.name}."
                f"{did_you_mean(self.selection.metric, known)} Allowed: {', '.join(known)}"
            )
        direction = self.directions[self.selection.metric]
        if self.selection.mode not in (None, direction):
            raise ConfigError(
                f"task.selection.mode = '{self.selection.mode}': of {self.selection.metric}, "
                f"{'less' if direction == 'min' else 'more'} is better. Leave it out, or set task.selection.mode=null"
            )
        self.selection = replace(self.selection, mode=direction)  # type: ignore[type-var]  # made by an alias of it

    @property
    @abstractmethod
    def scorer(self) -> Scorer:
        """Return what scores the answers; before the labels are known, it knows its options and the scores' names."""

    @property
    def directions(self) -> dict[str, Direction]:
        """Return the names of the overall scores and of the loss, and which way each is better."""
        return {**self.scorer.directions, "loss": "min"}

    def bind(self, processor: Processor) -> None:  # noqa: B027
        """Take what `answers` needs of the processor, a vocabulary for instance; before anything is encoded."""

    def learn_labels(self, splits: Mapping[str, Sequence[Any]], declared: Sequence[str] | None) -> None:
        """Set `labels` from what the configuration declares, else from the training split.

        Raises:
            ConfigError: labels are declared, and the task has none.
            DataError: an example of any split has a label that is not among them; names file and line.
        """
        if declared:
            raise ConfigError(f"data.labels: task={self.name} has no labels. Leave it out, or set data.labels=null")

    @property
    def declared_labels(self) -> list[str]:
        """Return what `learn_labels` would have to be given to come to the same labels."""
        return list(self.labels)

    def settle(self, examples: Sequence[Any], encoded: Encoded) -> None:  # noqa: B027
        """Settle the options that follow from the `examples` that are trained on, such as the weights of labels.

        Raises:
            ConfigError: one does not go together with them.
        """

    def settled(self) -> dict[str, Any]:
        """Return those options of the configuration, as they have been settled."""
        return {}

    @abstractmethod
    def from_input(self, given: Mapping[str, Any], id: str) -> Any:
        """Return an example without gold: of ``text`` in `given`, and what else the task takes.

        Raises:
            DataError: what is needed is missing or of the wrong type; says what is expected.
        """

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return what the model does not see of a split: counts, by what they count in words for people."""
        return {}

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return what an answer says of that part of the example at `index` that the model does not see, if any."""
        return {}

    @abstractmethod
    def encode(self, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
        """Turn `examples` into arrays that batches are cut from, token ids for instance.

        The result is kept on disk: it follows from what `encoded_text` returns for each example, the fields that
        `encoded_by` names, `processor` and `limits` alone.

        Raises:
            DataError, ConfigError: an example cannot be encoded, or the limits do not suit the task.
        """

    def encoded_text(self, example: Any) -> Any:
        """Return what `encode` reads of an example, as a JSON value."""
        return self.text_key(example)

    @abstractmethod
    def collate(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return the batch of the examples at `indices`, padded to the longest.

        Args:
            examples: of the split.
            encoded: the same, encoded.
            indices: which of them.
            random: where a task that augments its training examples draws from; None: they are taken as they are.
        """

    @abstractmethod
    def weights(self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return what each example at `indices` counts for in the mean loss, e.g. its labelled tokens.

        Returns:
            doubles, shape (examples,): the `Batch.weights` of the batch of these examples.
        """

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of each example, shape (examples,), summed over all that it counts for.

        The loss of an example does not depend on the others in the batch.

        Args:
            outputs: of the model, as transformers returns them.
            batch: that the model has computed.
        """

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, a scalar: the sum of `losses` over that of the weights, 0 of nothing."""
        return batch.mean(self.losses(outputs, batch))

    def divergences(self, outputs: Any, others: Any, batch: Batch) -> Tensor:
        """Return how far the predictions in `others` are from those in `outputs`, for each example, shape (examples,).

        It is the Kullback-Leibler divergence KL(outputs || others), summed over all that the loss of an example counts.

        Raises:
            ConfigError: the task does not predict distributions.
        """
        raise ConfigError(f"regularizer: task={self.name} does not say how far two of its predictions are apart")

    @abstractmethod
    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the answer to each example, as JSON values.

        Each has ``id``, ``input``, ``gold``, ``predicted`` and ``probability`` (None where there is none), and what
        else `kept` and `reply` make something of.

        Args:
            outputs: of the model, as transformers returns them.
            batch: that the model has computed; not a filler.
            model: for a task that generates.
            final: whether they are kept or handed on. Validations on the way only score them: what takes long and has
                no part in the scores is left out.
        """

    def kept(self, example: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer as a run keeps it: with the ``group`` of the example."""
        return {**answer, "group": getattr(example, "group", None)}

    @abstractmethod
    def reply(self, example: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a final answer says to whoever asks, whatever the gold, as JSON values."""

    @abstractmethod
    def text_key(self, example: Any) -> str:
        """Return what makes two examples the same text, for finding duplicates and the overlap of splits."""

    @abstractmethod
    def gold(self, example: Any) -> Any:
        """Return what the example is labelled with; two examples with one text and different gold contradict."""
