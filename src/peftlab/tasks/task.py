"""What a task is: labels, encoding, loss, decoding and scores. Plain PyTorch, without Lightning or Hydra."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torchmetrics import Metric
from transformers import PreTrainedTokenizerBase

from peftlab.errors import ConfigError, did_you_mean
from peftlab.tasks.heads import Head

IGNORED = -100
"""The label of what has no part in the loss."""

Batch = dict[str, Any]
"""A collated batch: ``inputs`` (what the model's forward takes), ``examples``, each with its ``id`` (none: a filler,
which is not to count), ``tokens`` (a count, without padding), and what the task needs beside them. Of a batch that is
divided it is one part; ``share`` is then its share of the whole's `Task.weight`."""

Table = tuple[list[str], list[list[Any]]]
"""The names of the columns, and the rows."""

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@spec
class Selection:
    """Which checkpoint is the best."""

    metric: str
    """The name of a score of the task, or ``loss``, on the validation split."""
    mode: Literal["max", "min"]
    """Whether more is better."""


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
    labels: list[str] = field(default_factory=list, init=False)
    """The classes in the order of the logits; filled by `learn_labels`."""

    head: ClassVar[Head]
    """Which head of transformers the backbone gets."""
    example: ClassVar[type]
    """What an example is; a data set's format has to give these."""
    scores: ClassVar[tuple[str, ...]]
    """What `metric` computes."""

    def __post_init__(self) -> None:
        """Check what the selection names."""
        known = [*self.scores, "loss"]
        if self.selection.metric not in known:
            raise ConfigError(
                f"task.selection.metric = '{self.selection.metric}' is no score of {self.name}."
                f"{did_you_mean(self.selection.metric, known)} Allowed: {', '.join(known)}"
            )

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

    @abstractmethod
    def from_input(self, given: Mapping[str, Any], id: str) -> Any:
        """Return an example without gold: of ``text`` in `given`, and what else the task takes.

        Raises:
            DataError: what is needed is missing or of the wrong type; says what is expected.
        """

    @abstractmethod
    def encode(self, examples: Sequence[Any], tokenizer: PreTrainedTokenizerBase, **options: Any) -> Encoded:
        """Turn `examples` into token ids; a pure function of its arguments, so that its result can be cached."""

    @abstractmethod
    def collate(self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int]) -> Batch:
        """Return the batch of the examples at `indices`, padded to the longest."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, a scalar."""

    @abstractmethod
    def weight(self, batch: Batch) -> int:
        """Return what the batch's mean loss counts for in a mean over batches, e.g. its labelled tokens.

        Weights add up: those of the parts of a batch are together that of the whole.
        """

    @abstractmethod
    def decode(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """Return one prediction an example: id, input, gold, predicted and probabilities, as JSON values."""

    @abstractmethod
    def predict(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """Return what is found in each example, whatever its gold, and how probable it is, as JSON values."""

    @abstractmethod
    def metric(self) -> Metric:
        """Return the scores: updated with `predicted` and `gold` of predictions, computes a dict of scalars."""

    @abstractmethod
    def update(self, metric: Metric, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Add `predictions`, as `decode` returned them, to `metric`."""

    @property
    @abstractmethod
    def scorer(self) -> str:
        """Return the name of the scorer, options included: a score without it is no result."""

    @abstractmethod
    def details(self, metric: Metric) -> dict[str, float]:
        """Return the scores that `metric` computes and finer ones, e.g. ``entity_f1/PER``."""

    @abstractmethod
    def report(self, metric: Metric) -> str:
        """Return the scores as a plain-text table for people."""

    @abstractmethod
    def tables(self, metric: Metric) -> dict[str, Table]:
        """Return by name what loggers show as tables: the scores by class, which class is taken for which."""

    @abstractmethod
    def text_key(self, example: Any) -> str:
        """Return what makes two examples the same text, for finding duplicates and the overlap of splits."""

    @abstractmethod
    def gold(self, example: Any) -> Any:
        """Return what the example is labelled with; two examples with one text and different gold contradict."""
