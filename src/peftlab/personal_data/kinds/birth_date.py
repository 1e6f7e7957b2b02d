"""Dates of birth: dates beside a word that says so, in several languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import ALONE_AFTER, ALONE_BEFORE, Kind, Slice, before

_MONTHS = [
    months.split()
    for months in (
        "january february march april may june july august september october november december",
        "januar februar märz april mai juni juli august september oktober november dezember",
        "jänner feber märz april mai juni juli august september oktober november dezember",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "jan feb mär apr mai jun jul aug sept okt nov dez",
        "janv févr mars avr mai juin juil août sept oct nov déc",
        "ene feb mar abr may jun jul ago sept oct nov dic",
    )
]
"""Of each language, in the order of the year."""
_MONTH = rf"(?:{'|'.join(sorted({one for months in _MONTHS for one in months}, key=len, reverse=True))})\b\.?"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th|er|\.|º|°)?"
_YEAR = r"(?:1[89]\d\d|20\d\d)"
_OF = r"(?: (?:of|de|del|di|do))?"
_DATE = re.compile(
    rf"{ALONE_BEFORE}(?:"
    rf"{_YEAR}([-./ ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])"
    rf"|(?:0?[1-9]|[12]\d|3[01])([-./] ?)(?:0?[1-9]|[12]\d|3[01])\2(?:{_YEAR}|\d\d)"
    rf"|{_DAY}{_OF} ?-?{_MONTH},?{_OF} ?-?{_YEAR}"
    rf"|{_MONTH} {_DAY},? {_YEAR}"
    rf"|(?:{_YEAR})年(?:1[0-2]|0?[1-9])月(?:3[01]|[12]\d|0?[1-9])日"
    rf"){ALONE_AFTER}",
    re.IGNORECASE,
)
_BORN = (
    r"(?:\b(?:born|birth\w*|b-?day|d\.?o\.?b\b\.?|geb(?:oren\b|oortedatum\b|urts\w*|\b\.?)|n[ée]e?s?\s?\(?e?\)?\s(?:le|en)|naissance|"
    r"naci(?:d[oa]|ó|miento)|nat[oa]\b|nascita|nasc(?:id[oa]|imento|eu)|urodz\w*)|\*|出生|生日|生年月日)"
)
_BEFORE = re.compile(_BORN + r"[^.!?;)\n]{0,32}$", re.IGNORECASE)
_AFTER = re.compile(r"[\s,(\[:-]{0,4}(?:is |was |as |est |ist |als )?(?:\w+ ){0,2}?" + _BORN, re.IGNORECASE)
_LIVING = range(1900, 2100)


@dataclass(frozen=True)
class BirthDate(Kind):
    """Dates of which a word such as *born* or *Geburtsdatum* stands just before or after, from the year 1900 on."""

    name: ClassVar[str] = "birth_date"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each date."""
        for match in _DATE.finditer(text):
            if _year(match[0]) in _LIVING and (
                before(text, match.start(), _BEFORE, 48) or _AFTER.match(text, match.end(), match.end() + 40)
            ):
                yield match.span()

    def found_anywhere(self, value: str) -> bool:
        """Return whether `value` is a date from the year 1900 on."""
        return _DATE.fullmatch(value) is not None and _year(value) in _LIVING

    def same(self, value: str) -> str:
        """Return the date as it is written: which number is the day depends on the country."""
        return value.casefold()

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return a date of the 19th century, when nobody was born who lives, in the same form."""
        year = "1800" if re.search(r"\d{3}", value) is None else ""  # of two digits, it may be of any century
        form = re.sub(r"\d\d(?=\D*$)", year or r"\g<0>", value)
        return re.sub(rf"\d+|{_MONTH}", lambda part: _other(part[0], draw), form, flags=re.IGNORECASE)


def _year(date: str) -> int:
    numbers = list(map(int, re.findall(r"\d+", date)))
    year = max(numbers) if max(numbers) > 31 else numbers[-1]
    return year if year > 99 else 1900 + year


def _other(part: str, draw: Draw) -> str:
    """Return another year, day or month in place of one, written as it is."""
    if part.isdigit():
        return f"18{draw.digits(2)}" if len(part) == 4 else str(draw.below(9) + 1).zfill(len(part))
    name = part.lower().rstrip(".")
    new = draw.one_of(next(months for months in _MONTHS if name in months))
    return (new.capitalize() if part[0].isupper() else new) + "." * part.endswith(".")
