"""Numbers of payment cards (ISO/IEC 7812), with their check digit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.digit_groups import chains, in_a_row, runs
from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice, package

_NETWORKS: tuple[tuple[range, tuple[int, ...]], ...] = (
    (range(400000, 500000), (13, 16, 19)),  # Visa
    (range(510000, 560000), (16,)),  # Mastercard
    (range(222100, 272100), (16,)),
    (range(340000, 350000), (15,)),  # American Express
    (range(370000, 380000), (15,)),
    (range(601100, 601200), (16, 17, 18, 19)),  # Discover
    (range(644000, 660000), (16, 17, 18, 19)),
    (range(300000, 306000), (14, 15, 16, 17, 18, 19)),  # Diners Club
    (range(309500, 309600), (14, 15, 16, 17, 18, 19)),
    (range(360000, 370000), (14, 15, 16, 17, 18, 19)),
    (range(380000, 400000), (14, 15, 16, 17, 18, 19)),
    (range(350000, 360000), (16, 17, 18, 19)),  # JCB
    (range(180000, 180100), (15,)),
    (range(213100, 213200), (15,)),
    (range(620000, 630000), (16, 17, 18, 19)),  # UnionPay
    (range(500000, 510000), (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (range(560000, 600000), (12, 13, 14, 15, 16, 17, 18, 19)),
    (range(630000, 644000), (12, 13, 14, 15, 16, 17, 18, 19)),
    (range(660000, 700000), (12, 13, 14, 15, 16, 17, 18, 19)),
    (range(220000, 220500), (16, 17, 18, 19)),  # Mir
    (range(979200, 979290), (16,)),  # Troy
)
"""The first six digits of each network's cards, and how many digits they have."""
_USUAL = 15
"""Digits below which a number among others is rather one of them."""


@dataclass(frozen=True)
class Card(Kind):
    """Numbers with the prefix and length of a network, and a check digit that is right (Luhn)."""

    name: ClassVar[str] = "card"
    is_number: ClassVar[bool] = True

    def check(self) -> None:
        """Check that `python-stdnum` is there; raises ConfigError."""
        package("stdnum.luhn", self.name)

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each number."""
        is_valid = package("stdnum.luhn", self.name).is_valid

        def accept(start: int, end: int) -> int | None:
            number = "".join(filter(str.isdigit, text[start:end]))
            if len(number) < _USUAL and in_a_row(text, start, end):
                return None
            return start if _is_of_network(number) and is_valid(number) else None

        for chain in chains(text, " -.", 1):
            yield from runs(chain, range(12, 20), 6, accept)

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return a number of the same form whose check digit is wrong."""
        return value[0] + draw.like(value[1:])


def _is_of_network(number: str) -> bool:
    prefix = int(number[:6])
    return any(prefix in prefixes and len(number) in lengths for prefixes, lengths in _NETWORKS)
