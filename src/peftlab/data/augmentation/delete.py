"""Deletion of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from typing_extensions import override

from peftlab.data.augmentation.augmentation import WordAugmentation, is_word, spec
from peftlab.tasks.inputs.editable import EditableText


@spec
class Delete(WordAugmentation):
    """Deletes words outside spans (Wei & Zou 2019, "EDA", random deletion); a text keeps at least one word."""

    needs: ClassVar[str] = "two words, one of them outside spans"

    @override
    def positions(self, text: EditableText) -> list[int]:
        return [n for n in text.free if is_word(text.words[n])] if len(text.words) > 1 else []

    @override
    def words(self, text: EditableText, position: int, random: np.random.Generator) -> Sequence[str]:
        return ()

    @override
    def chosen(self, text: EditableText, positions: Sequence[int], random: np.random.Generator) -> list[int]:
        chosen = super().chosen(text, positions, random)
        return chosen[: len(text.words) - 1]
