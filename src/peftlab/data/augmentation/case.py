"""Changes between capitals and small letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation.augmentation import WordAugmentation, spec, spellable
from peftlab.tasks.inputs.editable import EditableText

Form = Literal["lower", "upper", "title"]

_FORMS: Mapping[Form, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "title": str.capitalize}


@spec
class Case(WordAugmentation):
    """Writes words in small letters, in capitals, or with a capital first; words that look so already do not count."""

    forms: list[Form] = Field(default=["lower", "upper", "title"], min_length=1)
    """The forms to choose from, with equal probability among those that change a word."""
    mentions: bool = False
    """Whether words of mentions change too; their borders and types stay."""
    in_place: ClassVar[bool] = True
    needs: ClassVar[str] = "a word outside spans that another form would change"

    @override
    def positions(self, text: EditableText) -> list[int]:
        return [n for n in spellable(text, self.mentions) if self._others(text.words[n])]

    @override
    def words(self, text: EditableText, position: int, random: np.random.Generator) -> Sequence[str]:
        others = self._others(text.words[position])
        return (others[random.integers(len(others))],)

    def _others(self, word: str) -> list[str]:
        """Return the different words in `forms`."""
        written = dict.fromkeys(_FORMS[form](word) for form in self.forms)
        return [other for other in written if other != word]
