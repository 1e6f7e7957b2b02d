"""A text as patterns read it: plain digits, spaces and dashes, and nothing that cannot be seen."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple


class PlainText(NamedTuple):
    """A text in which each character has its plain form, and where each stood."""

    text: str
    places: Sequence[int]
    """The place of each character in the text as it was written; one more for the end."""

    def written(self, start: int, end: int) -> tuple[int, int]:
        """Return the slice of the text as it was written; what is invisible inside of it belongs to it."""
        return self.places[start], self.places[end - 1] + 1


def plain_text(text: str) -> PlainText:
    """Return `text` with digits, spaces, dashes, apostrophes and full-width characters in ASCII, and without those that
    have no width; other letters stay as they are.

    ``"\\uff14\\uff12\\u200b\\u20117"`` becomes ``"42-7"``.
    """
    if text.isascii():
        return PlainText(text, range(len(text) + 1))
    forms = [_plain(character) for character in text]
    if all(forms):
        return PlainText("".join(forms), range(len(text) + 1))
    places = [place for place, form in enumerate(forms) if form]
    return PlainText("".join(forms), [*places, len(text)])


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    """Return the plain form of one character: one character, or none."""
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category == "Cf":  # zero-width spaces and joiners, soft hyphens, marks of direction
        return ""
    if category == "Zs":
        return " "
    if category == "Pd" or character == "\u2212":  # dashes of any width, and the minus sign
        return "-"
    if character == "\u2019":
        return "'"
    composed = unicodedata.normalize("NFKC", character)
    return composed if len(composed) == 1 and composed.isascii() else character
