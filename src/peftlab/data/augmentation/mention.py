"""Replacement of mentions within their type."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Augmentation, Material, spec
from peftlab.tasks.inputs.editable import EditableText


@spec
class Mention(Augmentation):
    """Replaces mentions by others of their type from the training split (Dai & Adel 2020, "mention replacement").

    All different mentions of a type are equally probable, so that rare ones are seen as often as frequent ones.
    """

    alpha: float = Field(default=0.5, gt=0, le=1)
    """Share of the mentions of an edited text that are replaced; at least one is."""
    pools: dict[str, list[tuple[str, ...]]] = field(default_factory=dict, init=False, repr=False)
    """The different mentions of each type, set by `prepare`."""
    mixes: ClassVar[bool] = True
    needs: ClassVar[str] = "a mention of which another one of its type exists"

    @override
    def prepare(self, material: Material) -> None:
        pools: dict[str, dict[tuple[str, ...], None]] = {}
        for text in material.texts:
            for span in text.mentions:
                pools.setdefault(str(span.label), {})[text.words[span.start : span.end]] = None
        self.pools = {label: sorted(pool) for label, pool in pools.items()}

    @override
    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        mentions = [span for span in text.mentions if len(self.pools.get(str(span.label), ())) > 1]
        if not mentions:
            return text
        number = max(1, round(self.alpha * len(text.mentions)))
        changes: dict[int, tuple[str, ...]] = {}
        for place in sorted(random.permutation(len(mentions))[:number].tolist()):
            span = mentions[place]
            own, pool = text.words[span.start : span.end], self.pools[str(span.label)]
            others = [mention for mention in pool if mention != own]
            changes |= dict.fromkeys(range(span.start, span.end), ())
            changes[span.start] = others[random.integers(len(others))]
        return text.replaced(changes)
