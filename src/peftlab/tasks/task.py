"""What a task is: labels, encoding, loss, decoding and scores. Plain PyTorch, without Lightning or Hydra."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.scores.scorer import Direction, Scorer
from peftlab.tasks.batch import Batch
from peftlab.tasks.class_weights import ClassWeights, balanced, settled
from peftlab.tasks.heads import Head
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor, ProcessorKind

log = logging.getLogger("peftlab")

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
    """One kind of problem: from labelled examples to a loss, and from logits to scores.

    A task does no I/O. It learns its labels from `learn_labels`, before anything else is called.
    """

    name: str
    """Of the task, in the record and in the names of folders."""
    selection: Selection
    """Which checkpoint is the best."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target's probability that is spread over all labels (Szegedy et al. 2016)."""
    class_weights: ClassWeights | None = None
    """What an example of each label counts for in the loss, 1 where nothing is said; ``balanced``: all labels together
    count alike, over what is trained on. None: all examples count alike."""
    top_k: int | None = Field(default=None, ge=1)
    """Of how many labels, the most probable ones, a run keeps the probabilities; None: of all."""
    labels: list[str] = field(default_factory=list, init=False)
    """The classes in the order of the logits; filled by `learn_labels`."""

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

    @abstractmethod
    def learn_labels(self, splits: Mapping[str, Sequence[Any]], declared: Sequence[str] | None) -> None:
        """Set `labels` from what the configuration declares, else from the training split.

        Raises:
            DataError: an example of any split has a label that is not among them; names file and line.
        """

    @property
    @abstractmethod
    def declared_labels(self) -> list[str]:
        """Return what `learn_labels` would have to be given to come to the same labels."""

    def settle_weights(self, examples: Sequence[Any], encoded: Encoded) -> None:
        """Give `class_weights`, where there are any, a weight for every label; `examples` are those trained on.

        Raises:
            ConfigError: a key is no label.
        """
        if self.class_weights is None:
            return
        if self.class_weights == "balanced":
            weights = balanced(self.label_counts(examples, encoded), self.labels)
        else:
            weights = settled(self.class_weights, self.labels, self.label_names)
        if len(set(weights.values())) == 1:
            log.info("task.class_weights: all labels have the same weight, as they have without it")
        self.class_weights = weights

    @property
    def label_names(self) -> dict[str, list[str]]:
        """What a user may call labels by: each label by itself; a task may have names for several together."""
        return {label: [label] for label in self.labels}

    def weight_of(self, label: str) -> float:
        """Return what one example of `label` counts for in the loss: the integer 1 where there are no weights."""
        assert self.class_weights != "balanced", "the weights are settled before anything is trained"
        return 1 if self.class_weights is None else self.class_weights[label]

    def label_weights(self, like: Tensor) -> Tensor | None:
        """Return the weights in the order of the labels, shape (labels,), on the device of `like`; None: no weights."""
        if self.class_weights is None:
            return None
        weights = [self.weight_of(label) for label in self.labels]
        return torch.tensor(weights, dtype=torch.float32, device=like.device)

    def label_counts(self, examples: Sequence[Any], encoded: Encoded) -> Mapping[str, int]:
        """Return how often each label has a part in the loss of `examples`.

        Raises:
            ConfigError: that cannot be said.
        """
        raise ConfigError(f"task.class_weights=balanced: {self.name} does not count its labels; give them by label")

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
        losses, weight = self.losses(outputs, batch), batch.weights.sum()
        return losses.sum() / torch.where(weight > 0, weight, 1).to(losses.dtype)

    @abstractmethod
    def decode(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """Return one prediction an example: id, input, gold, predicted and its probability, as JSON values."""

    def kept(self, predictions: Sequence[dict[str, Any]], logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """Return `predictions`, as `decode` returned them, as a run keeps them.

        They have beside it the ``probabilities`` of all labels, or of the `top_k` most probable ones, and the ``group``
        of the example. Validations on the way do without, for this takes longer than scoring.
        """
        groups = [getattr(example, "group", None) for example in batch.examples]
        of_each = self.all_probabilities(logits, batch)
        return [
            prediction | {"probabilities": probabilities, "group": group}
            for prediction, probabilities, group in zip(predictions, of_each, groups, strict=True)
        ]

    def all_probabilities(self, logits: Tensor, batch: Batch) -> Iterable[Any]:
        """Return for each example the probabilities of all labels, as JSON values; None where a task has none."""
        return [None] * len(batch.examples)

    def by_label(self, probabilities: Tensor) -> list[dict[str, float]]:
        """Return each row of `probabilities`, shape (rows, labels), by label, with the seven digits that fp32 holds.

        They come in the order of the labels; of the `top_k`, the most probable one first.
        """
        if self.top_k is None or self.top_k >= len(self.labels):
            names, values = [self.labels] * len(probabilities), probabilities
        else:
            values, places = probabilities.topk(self.top_k)
            names = [[self.labels[place] for place in row] for row in places.tolist()]
        return [
            {label: float(f"{p:.7g}") for label, p in zip(labels, row, strict=True)}
            for labels, row in zip(names, values.tolist(), strict=True)
        ]

    @abstractmethod
    def predict(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """Return what is found in each example, whatever its gold, and how probable it is, as JSON values."""

    @abstractmethod
    def text_key(self, example: Any) -> str:
        """Return what makes two examples the same text, for finding duplicates and the overlap of splits."""

    @abstractmethod
    def gold(self, example: Any) -> Any:
        """Return what the example is labelled with; two examples with one text and different gold contradict."""
