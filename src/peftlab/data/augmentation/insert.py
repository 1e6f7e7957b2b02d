"""Insertion of punctuation marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation.augmentation import WordAugmentation, spec
from peftlab.tasks.inputs.editable import EditableText


@spec
class Insert(WordAugmentation):
    """Inserts punctuation marks before words outside spans (Karimi et al. 2021, "AEDA").

    Unlike an inserted word, a mark hardly changes what a text means.
    """

    marks: list[str] = Field(default=[".", ";", "?", ":", "!", ","], min_length=1)
    """The marks to choose from, with equal probability."""
    needs: ClassVar[str] = "a word outside spans"

    @override
    def positions(self, text: EditableText) -> list[int]:
        spaced = any(text.spaces[1:-1])  # then a mark needs a space on both sides
        return [n for n in text.free if n == 0 or not spaced or text.spaces[n]]

    @override
    def words(self, text: EditableText, position: int, random: np.random.Generator) -> Sequence[str]:
        return (self.marks[random.integers(len(self.marks))], text.words[position])
