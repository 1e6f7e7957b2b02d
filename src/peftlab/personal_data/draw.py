"""Keyed random choices: the same for the same key and the same person, and for nobody else to repeat."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")

_VOWELS, _CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"
_OTHER_LETTERS = {
    "GREEK": "αβγδεζηθικλμνξοπρστυφχψω",
    "CYRILLIC": "абвгдежзиклмнопрстуфхцчшэюя",
    "IDEOGRAPHIC": "甲乙丙丁戊己庚辛壬癸",
}


@dataclass(frozen=True)
class Draw:
    """Choices that follow from a key and a seed.

    Each is drawn from HMAC-SHA256 (RFC 2104) of the seed and a counter, so that nobody without the key can tell which
    seed they belong to.
    """

    key: bytes
    seed: str

    def of(self, part: str) -> Draw:
        """Return the choices of a part of it, such as one word of a name: the same wherever the part stands."""
        return Draw(self.key, f"{self.seed.partition(chr(31))[0]}\x1f{part}")

    @cached_property
    def _bytes(self) -> Iterator[int]:
        return itertools.chain.from_iterable(
            hmac.digest(self.key, f"{self.seed}\x1f{n}".encode(errors="surrogatepass"), hashlib.sha256)
            for n in itertools.count()
        )

    def below(self, limit: int) -> int:
        """Return a number below `limit`, each equally likely up to one in 2^32."""
        return int.from_bytes(bytes(itertools.islice(self._bytes, 8))) % limit

    def one_of(self, choices: Sequence[T]) -> T:
        """Return one of `choices`."""
        return choices[self.below(len(choices))]

    def digits(self, count: int) -> str:
        """Return `count` digits."""
        return "".join(self.one_of(string.digits) for _ in range(count))

    def like(self, text: str) -> str:
        """Return other letters and digits in the form of `text`: vowels for vowels, capitals for capitals.

        Spaces and punctuation stay.
        """
        return "".join(map(self._like, text))

    def _like(self, character: str) -> str:
        if character.isdigit():
            return self.one_of(string.digits)
        if not character.isalpha():
            return character
        low = character.lower()
        if low in _VOWELS or not low.isascii():
            letters = next((own for script, own in _OTHER_LETTERS.items() if _is_of(low, script)), _VOWELS)
        else:
            letters = _CONSONANTS
        new = self.one_of(letters)
        return new.upper() if character.isupper() else new


def _is_of(letter: str, script: str) -> bool:
    place = ord(letter[0])
    blocks = {"GREEK": [(0x370, 0x3FF)], "CYRILLIC": [(0x400, 0x52F)], "IDEOGRAPHIC": [(0x3040, 0x9FFF)]}
    return any(first <= place <= last for first, last in blocks[script])
