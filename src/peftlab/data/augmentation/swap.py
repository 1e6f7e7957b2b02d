"""Exchange of two words."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Augmentation, is_word, spec
from peftlab.tasks.inputs.editable import EditableText


@spec
class Swap(Augmentation):
    """Exchanges pairs of neighbouring words between which no span lies (after Wei & Zou 2019, "EDA", random swap).

    EDA exchanges any two words; neighbours keep more of the sentence, and a word never moves past a mention.
    """

    alpha: float = Field(default=0.1, gt=0, le=1)
    """Number of exchanges as a share of the number of words; at least one."""
    needs: ClassVar[str] = "two different words in a row outside spans"

    @override
    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        free = [n for n in text.free if is_word(text.words[n])]
        pairs = [n for n, after in pairwise(free) if after == n + 1 and text.words[n] != text.words[after]]
        if not pairs:
            return text
        changes: dict[int, tuple[str]] = {}
        for place in random.permutation(len(pairs)).tolist():
            n = pairs[place]
            if n not in changes and n + 1 not in changes:
                changes |= {n: (text.words[n + 1],), n + 1: (text.words[n],)}
            if len(changes) >= 2 * max(1, round(self.alpha * len(text.words))):
                break
        return text.replaced(changes)
