"""Typing errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation.augmentation import WordAugmentation, spec, spellable
from peftlab.tasks.inputs.editable import EditableText

Kind = Literal["neighbour", "drop", "double", "transpose"]

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""The letters of an English keyboard; each row is shifted by half a key against the one above."""

_SHORTEST = 4
"""Letters of the shortest word that gets an error: shorter ones would often become another word."""


def _neighbours() -> dict[str, str]:
    """Return the keys next to each letter."""
    places = {letter: (row, column) for row, letters in enumerate(_ROWS) for column, letter in enumerate(letters)}
    near = {}
    for letter, (row, column) in places.items():
        by = [(row, column - 1), (row, column + 1), (row - 1, column), (row - 1, column + 1)]
        by += [(row + 1, column - 1), (row + 1, column)]
        near[letter] = "".join(other for other, place in places.items() if place in by)
    return near


NEIGHBOURS = _neighbours()


@spec
class Typo(WordAugmentation):
    """Makes one typing error in each chosen word of at least four letters, between its first and its last letter.

    Both stay, since readers hardly notice errors between them (Pruthi et al. 2019, "Combating Adversarial Misspellings
    with Robust Word Recognition").
    """

    kinds: list[Kind] = Field(default=["neighbour", "drop", "double", "transpose"], min_length=1)
    """The errors to choose from: a key next to the right one, a letter dropped, doubled, or exchanged with the next."""
    mentions: bool = False
    """Whether words of mentions get errors too; their borders and types stay."""
    in_place: ClassVar[bool] = True
    needs: ClassVar[str] = "a word of at least four letters that may change"

    @override
    def positions(self, text: EditableText) -> list[int]:
        words = text.words
        return [n for n in spellable(text, self.mentions) if len(words[n]) >= _SHORTEST and words[n].isalpha()]

    @override
    def words(self, text: EditableText, position: int, random: np.random.Generator) -> Sequence[str]:
        word = text.words[position]
        place = 1 + int(random.integers(len(word) - 2))
        kind = self.kinds[random.integers(len(self.kinds))]
        return (_misspelt(word, place, kind, random),)


def _misspelt(word: str, place: int, kind: Kind, random: np.random.Generator) -> str:
    """Return `word` with an error of this kind at an inner `place`; a doubled letter where it would change nothing."""
    if kind == "transpose":
        place = min(place, len(word) - 3)  # the next letter is not the last
    letter, before, after = word[place], word[:place], word[place + 1 :]
    if kind == "transpose" and after[0] != letter:
        return before + after[0] + letter + after[1:]
    if kind == "neighbour" and (near := NEIGHBOURS.get(letter.lower())):
        typed = near[random.integers(len(near))]
        return before + (typed.upper() if letter.isupper() else typed) + after
    if kind == "drop":
        return before + after
    return before + letter + letter + after
