"""Which texts are trained on together: partners of an example from its class and from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.tasks.inputs.texts import Text


@dataclass(frozen=True)
class Pool:
    """The examples of a training split by their classes."""

    examples: Sequence[Text]
    """The split."""
    members: dict[str, np.ndarray]
    """The positions of the examples of each label."""

    @classmethod
    def of(cls, examples: Sequence[Text]) -> Pool:
        """Return the pool of a split; examples without a label are no part of it."""
        places: dict[str, list[int]] = {}
        for place, example in enumerate(examples):
            if example.label is not None:
                places.setdefault(example.label, []).append(place)
        return cls(examples, {label: np.asarray(own) for label, own in sorted(places.items())})

    def group(self, index: int, label: str, texts: int, random: np.random.Generator) -> list[int]:
        """Return the positions of `texts` examples of half as many classes, as far as there are so many.

        Args:
            index: the example that the others are drawn for, which comes first.
            label: its label.
            texts: their number, itself included.
            random: what is drawn from.
        """
        further = [other for other in self.members if other != label]
        ways = min(len(self.members), texts // 2)
        group = [index]
        for place, name in enumerate([label, *random.choice(further, ways - 1, replace=False).tolist()]):
            members = self.members[name]
            if not place and len(members) > 1:  # of one shot, itself: dropout gives it two embeddings (Gao et al. 2021)
                members = members[members != index]
            group += _drawn(members, texts // ways + (place < texts % ways) - (not place), random)
        return group


def _drawn(members: np.ndarray, number: int, random: np.random.Generator) -> list[int]:
    """Return `number` of the `members`, all of them before any comes again."""
    chosen = random.choice(members, min(number, len(members)), replace=False)
    drawn: list[int] = np.resize(chosen, number).tolist()
    return drawn
