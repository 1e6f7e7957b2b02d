"""The interface of a task: encoding, loss, answers and their scorer. Plain PyTorch, without Lightning or Hydra."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
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
from peftlab.tasks.from_examples import FromExamples
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.outputs.distributions import Distributions, kullback_leibler
from peftlab.tasks.outputs.kept_answers import Decisions, KeptAnswers
from peftlab.tasks.processor import Processor, ProcessorKind
from peftlab.tasks.reference import ComparesWithReference

IGNORED = -100
"""The label of positions excluded from the loss."""

LONGEST_TEXT = 1_000_000
"""Characters of one text, a book of 400 pages: tokenising it takes as much memory as a small model."""

Random = Callable[[int], np.random.Generator]
"""Returns the generator of the example at an index: a function of the seed, the epoch and the example, so that its
numbers do not depend on the rest of the batch, nor on how batches are divided."""

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@spec
class Selection:
    """How the best checkpoint is chosen."""

    metric: str
    """The name of a score of the task, or ``loss``, on the validation split."""
    mode: Direction | None = None
    """Whether more or less is better; None: the direction of the metric, the only other value allowed."""


@plain_dataclass(frozen=True, slots=True)
class Encoded:
    """A split as the model sees it: flat arrays, so that it is stored and loaded without loss or pickling."""

    arrays: dict[str, np.ndarray]
    lengths: np.ndarray
    """Tokens in each example's longest row, shape (examples,); batches are sorted by it."""
    padding: int
    """The token id that pads a row."""
    counts: dict[str, int]
    """Counts for the run record, e.g. of words and truncated words."""

    @property
    def rows(self) -> np.ndarray:
        """Number of rows of each example, shape (examples,): several if a long one is split."""
        return np.diff(self.arrays["examples"]) if "rows" in self.arrays else np.ones_like(self.lengths)

    @property
    def tokens(self) -> np.ndarray:
        """Number of tokens of each example over all its rows, shape (examples,): those of a `Batch` of it alone."""
        return np.diff(self.arrays["rows"][self.arrays["examples"]]) if "rows" in self.arrays else self.lengths


def check_size(characters: int, place: str = "") -> None:
    """Check that a text is not so long that tokenising it would exhaust memory.

    Raises:
        DataError: it is too long; the message names its `place`, if given.
    """
    if characters > LONGEST_TEXT:
        where = f"{place}: " if place else ""
        raise DataError(
            f"{where}a text of {characters:,} characters; at most {LONGEST_TEXT:,} are taken. Divide it: a model sees "
            "no more than the first data.max_tokens tokens of a long text, or each of its parts by itself"
        )


@spec
class Task(KeptAnswers, FromExamples, ComparesWithReference, ABC):
    """One kind of problem: from examples to a loss, and from a model's outputs to answers.

    A task does no I/O. Its processor (`bind`) and labels (`learn_labels`) are set before any other method is called.
    """

    name: str
    """Name of the task in run records and folder names."""
    selection: Selection
    """How the best checkpoint is chosen."""
    labels: list[str] = field(default_factory=list, init=False)
    """The classes in the order of the logits, set by `learn_labels`; empty if the task has no classes."""
    decisions: Decisions = field(default_factory=dict, init=False)
    """What `decide` has learnt on the validation split, which `answers` obey; empty until then, as in training."""

    head: ClassVar[Head]
    """The transformers head on the backbone."""
    example: ClassVar[type]
    """The type of an example, which the data set's format must produce."""
    processor: ClassVar[ProcessorKind] = "tokenizer"
    """The kind of processor that encodes the examples."""
    generates: ClassVar[bool] = False
    """Whether it writes conversations or generates texts, so that the model's chat template and generation settings
    decide its results, and belong to the identity of its runs."""
    pooling_inputs: ClassVar[frozenset[str]] = frozenset()
    """Names of the inputs of a batch that only a pooling before the head reads, see `peftlab.models.pooling`."""
    limited_by: ClassVar[frozenset[str]] = frozenset({"max_tokens", "long"})
    """The fields of `Limits` that the encoding obeys."""
    encoded_by: ClassVar[frozenset[str]] = frozenset()
    """The task's own fields that the encoding depends on."""
    acts_with: ClassVar[Mapping[str, tuple[str, Any]]] = {}
    """The task's own fields that act only where a key of the configuration has a value: that key, and the value."""
    host_work: ClassVar[str | None] = "its class does not say that the host has no part in its losses (host_work)"
    """Why steps cannot be recorded as CUDA graphs: what the host does in computing `losses`. None: nothing."""
    exported: ClassVar[str] = ""
    """How an exported model is used, sentences for its card, in which ``{task.FIELD}`` stands for a value of the task;
    empty: as transformers' pipelines do."""
    draws_inputs: ClassVar[bool] = False
    """Whether `collate` draws the inputs of training batches anew in every epoch."""
    draws_partners: ClassVar[bool] = False
    """Whether `collate` draws further examples of the training split for each, so that the split must be whole and
    unchanged, and each of them is trained on as it is."""
    couples_rows: ClassVar[bool] = False
    """Whether the loss of an example depends on its rows together, as on those of its choices, so that it is no sum
    over them."""
    pointers: ClassVar[frozenset[str] | None] = None
    """Names of the arrays of `encode` that begin with 0 and say where each example, or row, starts in another array.
    With them a large split is encoded in blocks, which are joined: pointers go on from their last value, all other
    arrays are joined along their first axis. None: a split is encoded as a whole, however large."""

    block: ClassVar[int | None] = None
    """Examples that are encoded at once, into a file of the cache that is mapped into memory, of tasks whose encoded
    examples are large. None: a split is encoded as a whole if its examples are in memory."""

    def __post_init__(self) -> None:
        """Check the metric of the selection and set its direction."""
        metrics = list(self.directions)
        if self.selection.metric not in metrics:
            raise ConfigError(
                f"task.selection.metric = '{self.selection.metric}' is no score of {self.name}."
                f"{did_you_mean(self.selection.metric, metrics)} Allowed: {', '.join(metrics)}"
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
        """Return the scorer of the answers; before `learn_labels`, it has its options and the names of its scores."""

    @property
    def directions(self) -> dict[str, Direction]:
        """Return the names of the overall scores and of the loss, and which direction of each is better."""
        return {**self.scorer.directions, "loss": "min"}

    @property
    def watched(self) -> list[str]:
        """Return the names of the scores that every validation during training has, which callbacks may monitor."""
        return list(self.directions)

    def bind(self, processor: Processor) -> None:
        """Keep what `answers` needs from the processor, such as a vocabulary; called before any encoding."""

    @property
    def packs(self) -> bool:
        """Whether rows of a batch may hold several examples, see `Batch.pieces`; `apart` then gives each its own, and
        `together` has as many as possible share them."""
        return False

    def learn_labels(self, splits: Mapping[str, Sequence[Any]], declared: Sequence[str] | None) -> None:
        """Set `labels` to those that the configuration declares, else to those of the training split.

        Raises:
            ConfigError: labels are declared, but the task has none.
            DataError: an example of any split has another label; the message names file and line.
        """
        if declared:
            raise ConfigError(f"data.labels: task={self.name} has no labels. Leave it out, or set data.labels=null")

    def head_settings(self) -> dict[str, Any]:
        """Return what the head sets in the model's configuration, as JSON values."""
        return self.head.settings(self.labels)

    def shape(self, model: Any) -> None:
        """Shape a loaded model to the inputs that the task makes, before any method is applied to it."""

    @property
    def declared_labels(self) -> list[str]:
        """Return the `declared` argument of `learn_labels` that reproduces the same labels."""
        return list(self.labels)

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return counts of what the model does not see of a split, by readable names."""
        return {}

    @abstractmethod
    def encode(self, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
        """Turn `examples` into the arrays that batches are cut from, such as token ids.

        The result is cached on disk, so it may depend only on what `encoded_text` returns for each example, the fields
        in `encoded_by`, `processor` and `limits`.

        Raises:
            DataError, ConfigError: an example cannot be encoded, or the limits do not suit the task.
        """

    def encoded_text(self, example: Any) -> Any:
        """Return the part of an example that `encode` reads, as a JSON value."""
        return self.text_key(example)

    @abstractmethod
    def collate(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return the batch of the examples at `indices`, padded to the longest; `Batch.padding` says with what.

        Args:
            examples: the examples of the split.
            encoded: the same examples, encoded.
            indices: their positions in the split.
            random: source of random numbers for a task that augments its training examples; None: no augmentation.
        """

    def apart(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return the batch of `collate` with one example in each row, and with an ``attention_mask``."""
        return self.collate(examples, encoded, indices, random)

    def together(self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int]) -> Batch:
        """Return the batch of `collate` with as many examples in each row as fit."""
        return self.collate(examples, encoded, indices)

    @abstractmethod
    def weights(self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the weight of each example at `indices` in the mean loss, e.g. its number of labelled tokens.

        Returns:
            doubles, shape (examples,), equal to the `Batch.weights` of these examples' batch.
        """

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of each example, shape (examples,), summed over its weighted parts, e.g. its tokens.

        The loss of an example does not depend on the others in the batch.

        Args:
            outputs: the model's outputs, as transformers returns them.
            batch: the model's input.
        """

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, a scalar: the sum of `losses` over the sum of weights, 0 without any."""
        return batch.mean(self.losses(outputs, batch))

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the categorical distributions in `outputs`; their weighted cross-entropies sum to `losses`.

        Raises:
            ConfigError: the task does not predict distributions.
        """
        raise ConfigError(
            f"regularizer: task={self.name} defines no distributions (`Task.distributions`), which this regulariser "
            "compares or reshapes. Choose one that only needs the loss, such as fgm or l2_sp"
        )

    def divergences(self, outputs: Any, others: Any, batch: Batch) -> Tensor:
        """Return the divergence of the predictions in `others` from those in `outputs`, shape (examples,).

        It is the Kullback-Leibler divergence KL(outputs || others), summed as in `losses`.

        Raises:
            ConfigError: the task does not predict distributions.
        """
        mine, theirs = self.distributions(outputs, batch), self.distributions(others, batch)
        return mine.by_example(kullback_leibler(mine.logits, theirs.logits), batch)

    def editable(self, example: Any) -> list[EditableText]:
        """Return the texts of an example, for augmentation: their words, and the spans that its gold refers to.

        Raises:
            ConfigError: the task does not say which words may change.
        """
        raise ConfigError(
            f"task={self.name} does not say which words of an example may change: its examples cannot be edited. "
            "Its class needs the methods `editable` and `edited`"
        )

    def edited(self, example: Any, texts: Sequence[EditableText]) -> Any:
        """Return `example` with `texts` in place of those of `editable`, and its gold moved along; the id stays."""
        raise NotImplementedError(f"{type(self).__name__} has `editable` without `edited`")

    def without_gold(self, example: Any) -> Any:
        """Return `example` with a gold that says nothing of its own, the same for all, yet counts in the loss.

        Raises:
            ConfigError: the task does not learn from texts without labels.
        """
        raise ConfigError(
            f"semi: task={self.name} does not learn from texts without labels. Choose a task with labels of whole "
            "texts or of words, or set semi=none"
        )

    @abstractmethod
    def text_key(self, example: Any) -> str:
        """Return the key by which two examples count as the same text, for duplicates and overlap of splits."""

    def title(self, example: Any) -> str:
        """Return what an example is called where people look at it: by default its text."""
        return self.text_key(example)

    @abstractmethod
    def gold(self, example: Any) -> Any:
        """Return the gold label; two examples with the same text and different gold conflict."""

    def classes(self, example: Any) -> Mapping[str, int]:
        """Return how often each class occurs in the gold of `example`: for data cards and for samples by class.

        By default a class is one of `labels`, and gold is one or several of them. Empty where the gold has none, as in
        regression.
        """
        gold = self.gold(example)
        names = [gold] if isinstance(gold, str) else gold if isinstance(gold, list | tuple | set | frozenset) else []
        return Counter(name for name in names if name in self.labels)
