"""The unlabelled texts that accompany each labelled example in a step, as the model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.module import DataModule
from peftlab.semi_supervised.unlabelled import Unlabelled
from peftlab.tasks.batch import Batch, Part
from peftlab.tasks.task import Encoded

Drawn = Sequence[tuple[int, int]]
"""Unlabelled texts, each with the turn in which it is drawn: in a turn, every text is drawn once."""


class Read(NamedTuple):
    """Companions as the model reads them."""

    examples: list[Any]
    batch: Batch
    hidden: Batch | None
    """The batch with the gold that the file has, for the record alone; None: it has none."""


class Companions:
    """Draws `mu` unlabelled texts for each labelled one.

    They are a function of the seed, the epoch and the labelled example, so that they are the same on any number of
    devices, however a batch is divided, and when the run is resumed. One text follows another in a random order: until
    all have been drawn, none is drawn again.

    Args:
        unlabelled: the texts.
        mu: how many accompany a labelled one.
        data: the labelled data.
        weak: edits the texts that pseudo-labels are made for.
        strong: edits those that learn the pseudo-labels.
    """

    def __init__(self, unlabelled: Unlabelled, mu: int, data: DataModule, weak: Augmenter, strong: Augmenter) -> None:
        self.unlabelled, self.mu, self.task, self.seed = unlabelled, mu, data.task, data.seed
        self.labelled = data.splits["train"].rows
        self._processor, self._limits = data.processor, data.spec.limits
        self._weak, self._strong = weak, strong
        self._order = lru_cache(8)(self._order_of)

    def drawn_for(self, part: Part) -> Drawn:
        """Return the companions of the labelled examples of `part`, `mu` of the first, then of the next, and so on."""
        assert part.epoch is not None, "only training examples have companions"
        before = part.epoch * self.labelled
        slots = [(before + example) * self.mu + n for example in part.examples for n in range(self.mu)]
        number = len(self.unlabelled.examples)
        return [(int(self._order(slot // number)[slot % number]), slot // number) for slot in slots]

    def weak(self, drawn: Drawn) -> Read:
        """Return the texts that pseudo-labels are made for."""
        hidden = self.unlabelled.hidden
        examples, encoded = self._edited(self._weak, drawn, [self.unlabelled.examples[place] for place, _ in drawn])
        everything = range(len(examples))
        batch = self.task.collate(examples, encoded, everything)
        if hidden is None:
            return Read(examples, batch, None)
        return Read(examples, batch, self.task.collate([hidden[place] for place, _ in drawn], encoded, everything))

    def strong(self, drawn: Drawn, weak: Read) -> Batch:
        """Return the texts that learn the pseudo-labels of `weak`."""
        examples, encoded = self._edited(self._strong, drawn, weak.examples)
        return self.task.collate(examples, encoded, range(len(examples)))

    def _edited(self, augmenter: Augmenter, drawn: Drawn, others: Sequence[Any]) -> tuple[list[Any], Encoded]:
        """Return the drawn texts edited, and encoded.

        One that has lost or gained a word that counts, such as a deleted word of a sentence whose words are tagged,
        would not fit what is known or guessed of `others`, the same texts otherwise: that one takes its place.
        """
        examples = [augmenter.example(self.unlabelled.examples[place], turn) for place, turn in drawn]
        encoded, everything = self._encoded(examples), range(len(examples))
        if augmenter.augmentations or self._weak.augmentations:
            wanted = self.task.weights(others, self._encoded(others), everything)
            odd = np.flatnonzero(self.task.weights(examples, encoded, everything) != wanted).tolist()
            for n in odd:
                examples[n] = others[n]
            encoded = self._encoded(examples) if odd else encoded
        return examples, encoded

    def _encoded(self, examples: Sequence[Any]) -> Encoded:
        return self.task.encode(examples, self._processor, self._limits)

    def with_labelled(self, labelled: Sequence[Any], *others: Sequence[Any]) -> Batch:
        """Return one batch of labelled examples and others."""
        examples = [*labelled, *(example for some in others for example in some)]
        return self.task.collate(examples, self._encoded(examples), range(len(examples)))

    def _order_of(self, turn: int) -> np.ndarray:
        random = np.random.default_rng([self.seed, turn, 3])  # the last number separates it from other streams
        return random.permutation(len(self.unlabelled.examples))
