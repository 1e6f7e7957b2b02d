"""Recombination of mentions and contexts."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Augmentation, Material, spec
from peftlab.tasks.inputs.editable import EditableText

Kind = tuple[str | None, ...]
"""What a text is about, and the types of its mentions."""


@spec
class Context(Augmentation):
    """Puts the mentions of a sentence into another training sentence with mentions of the same types in the same order.

    So the model sees mentions in contexts that they do not occur in, and cannot learn them by heart from their
    neighbours. A sentence with gold of its own, such as an intent, goes on to one with the same.
    """

    pools: dict[Kind, list[EditableText]] = field(default_factory=dict, init=False, repr=False)
    """The different contexts by their kind, set by `prepare`."""
    mixes: ClassVar[bool] = True
    needs: ClassVar[str] = "mentions of the same types in the same order as another text"

    @override
    def prepare(self, material: Material) -> None:
        pools: dict[Kind, dict[tuple[str, ...], EditableText]] = {}
        for text in material.texts:
            if text.mentions:
                pools.setdefault(_kind(text), {})[text.words] = text
        self.pools = {kind: list(pool.values()) for kind, pool in pools.items()}

    @override
    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        pool = self.pools.get(_kind(text), [])
        if not text.mentions or len(pool) < 2:
            return text
        other = pool[random.integers(len(pool))]
        changes: dict[int, tuple[str, ...]] = {}
        for old, new in zip(other.mentions, text.mentions, strict=True):
            changes |= dict.fromkeys(range(old.start, old.end), ())
            changes[old.start] = text.words[new.start : new.end]
        recombined = other.replaced(changes)
        return text if recombined.words == text.words else recombined


def _kind(text: EditableText) -> Kind:
    return text.about, *(str(span.label) for span in text.mentions)
