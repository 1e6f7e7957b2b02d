"""The interface of an augmentation: it edits the texts of a training example, and keeps what its gold refers to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.processor import Processor

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


@plain_dataclass(frozen=True, slots=True)
class Material:
    """What an augmentation may draw on: the training split alone, and the pretrained model."""

    texts: Iterable[EditableText]
    """All texts of the training examples."""
    processor: Processor
    embeddings: Callable[[], np.ndarray]
    """Returns the model's input embeddings, shape (vocabulary, features)."""


@spec
class Augmentation(ABC):
    """Edits training texts anew in every epoch.

    An edit is a function of the text and of the random numbers of its example, which depend on the seed, the epoch and
    the example's id only. Spans keep their order, their labels and, unless a class says otherwise, their words.
    """

    share: float = Field(default=0.5, ge=0, le=1)
    """Share of the training examples that it edits in each epoch, drawn anew."""
    first: ClassVar[bool] = False
    """Whether it edits only unchanged texts, so that no other augmentation may come before it."""
    mixes: ClassVar[bool] = False
    """Whether an edit puts parts of other examples into a text."""
    in_place: ClassVar[bool] = False
    """Whether every word of an edited text, changed or not, is where it was, as labels guessed word by word need it."""
    of_examples: ClassVar[tuple[str, ...]] = ()
    """Options that `prepare` makes definite from the training examples, so that a run with others needs them anew."""
    needs: ClassVar[str]
    """What a text must have to be edited, for the message that no training text has it."""

    def prepare(self, material: Material) -> None:  # noqa: B027
        """Read what it needs, such as a dictionary; called once before any edit.

        Raises:
            UserError: it cannot work with this model or data.
        """

    def resolved(self) -> dict[str, Any]:
        """Return the options of the configuration that `prepare` has made definite, with their values."""
        return {}

    @abstractmethod
    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        """Return `text` edited; the same object if nothing in it can be."""

    def edit_all(self, texts: Sequence[EditableText], random: np.random.Generator) -> list[EditableText]:
        """Return the `texts` of one example edited, each by itself unless a class says otherwise."""
        return [self.edit(text, random) for text in texts]


@spec
class WordAugmentation(Augmentation):
    """Edits a share of the words of a text."""

    alpha: float = Field(default=0.1, gt=0, le=1)
    """Share of the words of an edited text that change; at least one does."""

    @abstractmethod
    def positions(self, text: EditableText) -> list[int]:
        """Return the positions of the words that it can edit."""

    @abstractmethod
    def words(self, text: EditableText, position: int, random: np.random.Generator) -> Sequence[str]:
        """Return the words that replace the one at `position`."""

    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        """Return `text` with the chosen words replaced."""
        chosen = self.chosen(text, self.positions(text), random)
        return text.replaced({n: self.words(text, n, random) for n in chosen}) if chosen else text

    def chosen(self, text: EditableText, positions: Sequence[int], random: np.random.Generator) -> list[int]:
        """Return a random choice of `positions`: the share `alpha` of the words of `text`, or all where they are fewer.

        Returns:
            positions in ascending order; at least one if there is any.
        """
        if not positions:
            return []
        number = max(1, round(self.alpha * len(text.words)))
        return sorted(positions[n] for n in random.permutation(len(positions))[:number].tolist())


def spellable(text: EditableText, mentions: bool) -> list[int]:
    """Return the positions of the words whose letters may change: those outside spans, and with `mentions` theirs."""
    inside = [n for span in text.mentions for n in range(span.start, span.end)] if mentions else []
    return sorted([*text.free, *inside])


def is_word(word: str) -> bool:
    """Return whether a word of a text has a letter or a digit, unlike a punctuation mark."""
    return any(map(str.isalnum, word))
