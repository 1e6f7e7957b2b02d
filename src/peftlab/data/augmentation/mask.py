"""Masked words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import ClassVar

import numpy as np
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Material, WordAugmentation, is_word, spec
from peftlab.errors import ConfigError
from peftlab.tasks.inputs.editable import EditableText


@spec
class Mask(WordAugmentation):
    """Puts the tokenizer's mask token in place of words outside spans (word dropout, Iyyer et al. 2015)."""

    token: str = field(default="", init=False)
    """The mask token, set by `prepare`."""
    in_place: ClassVar[bool] = True
    needs: ClassVar[str] = "a word outside spans"

    @override
    def prepare(self, material: Material) -> None:
        token = material.processor.tokenizer.mask_token
        if token is None:
            raise ConfigError("the model's tokenizer has no mask token. Leave it out, or take `delete`")
        self.token = str(token)

    @override
    def positions(self, text: EditableText) -> list[int]:
        return [n for n in text.free if is_word(text.words[n])]

    @override
    def words(self, text: EditableText, position: int, random: np.random.Generator) -> Sequence[str]:
        return (self.token,)
