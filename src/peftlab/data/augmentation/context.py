"""Recombination of mentions and contexts."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Augmentation, Material, spec
from peftlab.tasks.editable import EditableText


@spec
class Context(Augmentation):
    """Puts the mentions of a sentence into another training sentence with mentions of the same types in the same order.

    So the model sees mentions in contexts that they do not occur in, and cannot learn them by heart from their
    neighbours.
    """

    pools: dict[tuple[str, ...], list[EditableText]] = field(default_factory=dict, init=False, repr=False)
    """The different contexts by the types of their mentions, set by `prepare`."""
    mixes: ClassVar[bool] = True
    needs: ClassVar[str] = "mentions of the same types in the same order as another text"

    @override
    def prepare(self, material: Material) -> None:
        pools: dict[tuple[str, ...], dict[tuple[str, ...], EditableText]] = {}
        for text in material.texts:
            if text.mentions:
                pools.setdefault(_types(text), {})[text.words] = text
        self.pools = {types: list(pool.values()) for types, pool in pools.items()}

    @override
    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        pool = self.pools.get(_types(text), [])
        if not text.mentions or len(pool) < 2:
            return text
        other = pool[random.integers(len(pool))]
        changes: dict[int, tuple[str, ...]] = {}
        for old, new in zip(other.mentions, text.mentions, strict=True):
            changes |= dict.fromkeys(range(old.start, old.end), ())
            changes[old.start] = text.words[new.start : new.end]
        recombined = other.replaced(changes)
        return text if recombined.words == text.words else recombined


def _types(text: EditableText) -> tuple[str, ...]:
    return tuple(str(span.label) for span in text.mentions)
