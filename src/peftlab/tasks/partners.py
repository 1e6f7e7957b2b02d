"""Which texts are trained on together: partners of an example from its class and from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.tasks.task import Encoded
from peftlab.tasks.texts import Text

_NEARNESS = 0.1
"""How much more similar a class must be to be drawn e times as often."""


@dataclass(frozen=True)
class Pool:
    """The examples of a training split by their classes, and how alike the words of two classes are."""

    examples: Sequence[Text]
    """The split."""
    members: dict[str, np.ndarray]
    """The positions of the examples of each label."""
    alike: np.ndarray
    """The cosine between the tokens of two classes, weighted by their rarity, shape (labels, labels)."""

    @classmethod
    def of(cls, examples: Sequence[Text], encoded: Encoded) -> Pool:
        """Return the pool of a split; examples without a label are no part of it."""
        places: dict[str, list[int]] = {}
        for place, example in enumerate(examples):
            if example.label is not None:
                places.setdefault(example.label, []).append(place)
        members = {label: np.asarray(own) for label, own in sorted(places.items())}
        return cls(examples, members, _alike(members, encoded))

    def group(self, index: int, label: str, texts: int, near: bool, random: np.random.Generator) -> list[int]:
        """Return the positions of `texts` examples, half as many classes as far as there are so many.

        Args:
            index: the example that the others are drawn for, which comes first.
            label: its label.
            texts: their number, itself included.
            near: whether classes of similar words are drawn more often.
            random: what is drawn from.
        """
        labels = list(self.members)
        own, ways = labels.index(label), min(len(labels), texts // 2)
        chances = np.exp(self.alike[own] / _NEARNESS) if near else np.ones(len(labels))
        chances[own] = 0
        further = random.choice(len(labels), ways - 1, replace=False, p=chances / chances.sum())
        group = [index]
        for place, number in enumerate([own, *further]):
            members = self.members[labels[number]]
            if not place and len(members) > 1:  # of one shot, itself: dropout gives it two embeddings (Gao et al. 2021)
                members = members[members != index]
            group += _drawn(members, texts // ways + (place < texts % ways) - (not place), random)
        return group


def _alike(members: dict[str, np.ndarray], encoded: Encoded) -> np.ndarray:
    from scipy.sparse import csr_array

    labels = np.full(len(encoded.lengths), -1)
    for number, own in enumerate(members.values()):
        labels[own] = number
    of_tokens = np.repeat(labels, np.diff(encoded.arrays["examples"]))
    labelled = of_tokens >= 0
    places = of_tokens[labelled], encoded.arrays["tokens"][labelled]
    counts = csr_array((np.ones(len(places[0])), places), shape=(len(members), int(places[1].max(initial=0)) + 1))
    rarity = np.log((1 + len(members)) / (1 + (counts > 0).sum(axis=0)))
    weighted = counts * rarity
    norms = np.sqrt((weighted * weighted).sum(axis=1))
    unit = weighted / np.where(norms > 0, norms, 1)[:, None]
    cosines: np.ndarray = (unit @ unit.T).toarray()
    return cosines


def _drawn(members: np.ndarray, number: int, random: np.random.Generator) -> list[int]:
    """Return `number` of the `members`, all of them before any comes again."""
    chosen = random.choice(members, min(number, len(members)), replace=False)
    drawn: list[int] = np.resize(chosen, number).tolist()
    return drawn
