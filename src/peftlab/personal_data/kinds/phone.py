"""Telephone numbers, as the package ``phonenumbers`` knows them for each country."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from peftlab.errors import ConfigError, did_you_mean
from peftlab.personal_data.digit_groups import chains, in_a_row, runs
from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice, before, package

_SEPARATORS = " -./()"
_CALLED = re.compile(
    r"(?:\b(?:tel[eé]?|phone|mobile?|cell|fax|call|ring|text|sms|whatsapp|hotline|contact|reach|dial)|"
    r"\b(?:handy|ruf|anruf|rückruf|durchwahl|t[ée]l[ée]phone|portable|appel|m[óo]vil|llam|cellulare|chiam|bel|gsm)|"
    r"[☎☏📞📱✆])\S*(?:\W{1,4}\w{1,12}){0,3}\W{0,4}$",
    re.IGNORECASE,
)
"""What says that a number without any form of its own is one of a telephone."""
_NUMBERED = re.compile(
    r"(?:\b(?:order|invoice|item|part|article|product|model|serial|sku|ref(?:erence)?|ticket|case|version|isbn|issn|ean|"
    r"upc|doi|po|customer|account|tracking|bestell\w*|rechnung\w*|artikel\w*|auftrag\w*|kunden\w*|commande|facture|"
    r"pedido|factura|ordine|fattura|bestelling|factuur)\b\W{0,3}(?:\b(?:number|nummer|no|nr|num|id|code|n)\b)?|"
    r"#|№)\W{0,3}$",
    re.IGNORECASE,
)
"""What says that a number counts something else."""
_DATE = re.compile(r"\d{4}([-./])\d{1,2}\1\d{1,2}(?![-./]?\d)|\d{1,2}([-./])\d{1,2}\2(?:\d{4}|\d{2})(?![-./]?\d)")
_EXTENSION = re.compile(r"[ ]?(?:x|ext\.?|extension|#|Durchwahl|DW|poste)[ .:]{0,2}\d{1,6}(?!\w)", re.IGNORECASE)
_SINGLE = re.compile(r"(?<!\d)\d(?!\d)")
_DIGITS = range(7, 16)
_LONG_CHAIN = 24
"""Groups of digits in a row above which only what begins like a telephone number is looked at."""


@dataclass(frozen=True)
class Phone(Kind):
    """Numbers that are valid: with a country's prefix anywhere, in its own form where it is one of the `regions`.

    A number of nothing but digits that does not begin with 0 needs a word such as *phone* before it. A local number
    without its area code is not found.
    """

    name: ClassVar[str] = "phone"
    has_regions: ClassVar[bool] = True

    def check(self) -> None:
        """Check that `phonenumbers` is there and has the regions; raises ConfigError."""
        known = package("phonenumbers", self.name).SUPPORTED_REGIONS
        for region in self.regions:
            if region not in known:
                raise ConfigError(
                    f"regions: of '{region}' no telephone numbers are known.{did_you_mean(region, known)} Expected "
                    "codes of countries such as US, GB, DE"
                )

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each number, with its ``+`` and its extension."""
        for chain in chains(text, _SEPARATORS, 3):
            many = len(chain) > _LONG_CHAIN

            def accept(start: int, end: int, many: bool = many) -> int | None:
                lead = _lead(text, start)
                if many and lead == start and text[start] != "0":
                    return None
                return lead if self._is_number(text, lead, end) else None

            for start, end in runs(chain, _DIGITS, 8, accept):
                extension = _EXTENSION.match(text, end)
                yield start, extension.end() if extension else end

    def _is_number(self, text: str, start: int, end: int) -> bool:
        number = text[start:end]
        if len(_SINGLE.findall(number)) > 3:
            return False
        if number.startswith("+") or number.startswith("00"):
            return _is_valid("+" + number.lstrip("+0"), None) or (number[0] == "0" and self._is_national(number))
        if _DATE.match(number) or before(text, start, _NUMBERED, 24):
            return False
        if number[0] not in "0(" and in_a_row(text, start, end):
            return False
        if number.isdigit() and number[0] != "0" and not before(text, start, _CALLED):
            return False
        return self._is_national(number)

    def _is_national(self, number: str) -> bool:
        return any(_is_valid(number, region) for region in self.regions)

    def found_anywhere(self, value: str) -> bool:
        """Return whether `value` is a number, if a word such as *phone* stands before it."""
        return any(self.find(f"phone {value}"))

    def same(self, value: str) -> str:
        """Return the digits."""
        return "".join(filter(str.isdigit, value))

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return a number of the same form that no country assigns."""
        kept = re.match(r"\+\d{1,2}|00\d{2}|0|", value)
        assert kept is not None
        return kept[0] + draw.like(value[kept.end() :])


def _lead(text: str, start: int) -> int:
    """Return where a number begins that has its first digit at `start`: at its ``+``, or at its bracket."""
    lead = start
    while lead and text[lead - 1] in "(+" and start - lead < 2:
        lead -= 1
    if lead > 1 and text[lead - 1] == " " and text[lead - 2] == "+":
        lead -= 2
    return lead


@lru_cache(maxsize=16384)
def _is_valid(number: str, region: str | None) -> bool:
    """Return whether a number is valid in a country, or with the prefix of one."""
    phonenumbers = package("phonenumbers", Phone.name)
    digits = number.lstrip("(")
    if region is not None and phonenumbers.ndd_prefix_for_region(region, True) == "0" and digits[:1] != "0":
        return False
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    if region is None:
        return bool(phonenumbers.is_valid_number(parsed))
    return bool(phonenumbers.is_valid_number_for_region(parsed, region))
