"""International bank account numbers (ISO 13616), with their check digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice, package

_START = re.compile(r"(?<![^\W_])[A-Z]{2}[ -]?\d{2}", re.IGNORECASE)
_REST = re.compile(r"(?:[ .-]{0,2}[A-Z0-9]){11,30}", re.IGNORECASE)
_LENGTHS = range(15, 35)


@dataclass(frozen=True)
class Iban(Kind):
    """Numbers with the length and form of their country, and check digits that are right (mod 97)."""

    name: ClassVar[str] = "iban"
    is_number: ClassVar[bool] = True

    def check(self) -> None:
        """Check that `python-stdnum` is there; raises ConfigError."""
        package("stdnum.iban", self.name)

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each number."""
        is_valid = package("stdnum.iban", self.name).is_valid
        done = 0
        for start in _START.finditer(text):
            rest = _REST.match(text, start.end())
            if rest is None or start.start() < done:
                continue
            places = [place for place in range(start.start(), rest.end()) if text[place].isalnum()]
            number = "".join(text[place] for place in places).upper()
            for length in _LENGTHS:
                if length > len(places):
                    break
                end = places[length - 1] + 1
                goes_on = end < len(text) and text[end].isalnum()
                if goes_on or not _has_right_check(number[:length]):
                    continue
                if is_valid(number[:length], check_country=False):
                    yield start.start(), end
                    done = end
                    break

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return a number of the same country whose check digits are 00, which no number has."""
        start = _START.match(value)
        assert start is not None
        return f"{start[0][:-2]}00{draw.like(value[start.end() :])}"


def _has_right_check(number: str) -> bool:
    """Return whether the remainder by 97 is 1 (ISO/IEC 7064): quick, where the form of the country is not."""
    return int("".join(str(int(character, 36)) for character in number[4:] + number[:4])) % 97 == 1
