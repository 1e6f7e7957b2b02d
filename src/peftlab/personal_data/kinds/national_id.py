"""Numbers that a state gives to a person: of identity, social insurance, health or tax."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

from peftlab.errors import ConfigError
from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import ALONE_AFTER, ALONE_BEFORE, Kind, Slice, before, package


class Number(NamedTuple):
    """One number of one country."""

    region: str
    module: str
    """What checks it, a module of `stdnum` or a function of this one."""
    form: str
    """A regular expression for how it is written."""
    words: str = ""
    """If its form and check alone say too little: a regular expression for what must stand before it."""


NUMBERS = (
    Number("AT", "at.vnr", r"\d{4} ?\d{6}"),
    Number("AU", "au.tfn", r"\d{3} ?\d{3} ?\d{2,3}", r"tfn|tax file"),
    Number("BE", "be.nn", r"\d{2}\.?\d{2}\.?\d{2}[- ]?\d{3}[. ]?\d{2}"),
    Number("BG", "bg.egn", r"\d{10}", r"егн|egn|личен"),
    Number("BR", "br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    Number("BR", "br.cpf", r"\d{11}", r"cpf"),
    Number("CA", "ca.sin", r"\d{3}[- ]?\d{3}[- ]?\d{3}", r"\bsin\b|social insurance|assurance sociale|\bnas\b"),
    Number("CH", "ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d{2}"),
    Number("CL", "cl.rut", r"\d{1,2}\.?\d{3}\.?\d{3}-[\dk]"),
    Number("CN", "cn.ric", r"\d{17}[\dx]"),
    Number("CZ", "cz.rc", r"\d{6}/\d{3,4}"),
    Number("DE", "de.idnr", r"\d{2} \d{3} \d{3} \d{3}"),
    Number("DE", "de.idnr", r"\d{11}", r"steuer|idnr|id-nr|identifikations|\btin\b|tax"),
    Number("DE", "pension_number", r"\d{2} ?\d{6} ?[a-z] ?\d{3}"),
    Number("DK", "dk.cpr", r"\d{6}-\d{4}"),
    Number("DK", "dk.cpr", r"\d{10}", r"cpr|personnummer"),
    Number("EE", "ee.ik", r"\d{11}", r"isikukood|personal code"),
    Number("ES", "es.dni", r"\d{8}[- ]?[a-z]"),
    Number("ES", "es.nie", r"[xyz][- ]?\d{7}[- ]?[a-z]"),
    Number("FI", "fi.hetu", r"\d{6}[-+a-fu-y]\d{3}[\da-y]"),
    Number("FR", "fr.nir", r"[12378] ?\d{2} ?\d{2} ?(?:\d{2}|2[ab]) ?\d{3} ?\d{3} ?\d{2}"),
    Number("GB", "insurance_number", r"[a-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[a-d]"),
    Number("GB", "gb.nhs", r"\d{3}[- ]?\d{3}[- ]?\d{4}", r"nhs"),
    Number("GR", "gr.amka", r"\d{11}", r"αμκα|amka"),
    Number("HR", "hr.oib", r"\d{11}", r"oib"),
    Number("IE", "ie.pps", r"\d{7}[a-w][a-iw]?"),
    Number("IL", "il.idnr", r"\d{9}", r"teudat|ת\.?ז|identity"),
    Number("IN", "in_.aadhaar", r"[2-9]\d{3} ?\d{4} ?\d{4}", r"aadhaar|uidai|आधार"),
    Number("IN", "in_.pan", r"[a-z]{3}[abcfghjlpt][a-z]\d{4}[a-z]"),
    Number("IT", "it.codicefiscale", r"[a-z]{6}[\dlmnp-v]{2}[a-ehlmprst][\dlmnp-v]{2}[a-z][\dlmnp-v]{3}[a-z]"),
    Number("KR", "kr.rrn", r"\d{6}-\d{7}"),
    Number("LT", "lt.asmens", r"\d{11}", r"asmens|personal code"),
    Number("MX", "mx.curp", r"[a-z]{4}\d{6}[hm][a-z]{5}[a-z\d]\d"),
    Number("MY", "my.nric", r"\d{6}-\d{2}-\d{4}"),
    Number("NL", "nl.bsn", r"\d{4}[. ]\d{2}[. ]\d{3}|\d{8,9}", r"bsn|burger\s?service|sofi"),
    Number("NO", "no.fodselsnummer", r"\d{6} ?\d{5}"),
    Number("PL", "pl.pesel", r"\d{11}", r"pesel"),
    Number("PT", "pt.cc", r"\d{8} ?\d ?[a-z\d]{2}\d"),
    Number("PT", "pt.nif", r"\d{3} ?\d{3} ?\d{3}", r"\bnif\b|contribuinte"),
    Number("RO", "ro.cnp", r"\d{13}", r"cnp|cod numeric"),
    Number("SE", "se.personnummer", r"(?:\d{2})?\d{6}[-+]\d{4}"),
    Number("SI", "si.emso", r"\d{13}", r"emšo|emso"),
    Number("TH", "th.pin", r"\d-\d{4}-\d{5}-\d{2}-\d"),
    Number("TR", "tr.tckimlik", r"\d{11}", r"kimlik|t\.?c\.?"),
    Number("US", "us.ssn", r"\d{3}-\d{2}-\d{4}"),
    Number("US", "us.ssn", r"\d{3} ?\d{2} ?\d{4}", r"ssn|social security"),
    Number("US", "us.itin", r"9\d{2}-\d{2}-\d{4}"),
    Number("ZA", "za.idnr", r"\d{13}|\d{6} \d{4} \d{3}", r"\bid\b|identity"),
)
"""By country. A number of digits alone with one check digit needs a word before it: every tenth other number passes."""


@dataclass(frozen=True)
class NationalId(Kind):
    """The numbers of the `regions`, with their check digits and dates as far as they have some."""

    name: ClassVar[str] = "national_id"
    is_number: ClassVar[bool] = True
    has_regions: ClassVar[bool] = True

    def check(self) -> None:
        """Check that `python-stdnum` is there, and that it has a number of one of the regions; raises ConfigError."""
        package("stdnum", self.name)
        if not any(number.region in self.regions for number in NUMBERS):
            known = ", ".join(sorted({number.region for number in NUMBERS}))
            raise ConfigError(
                f"regions: the kind 'national_id' knows no number of {', '.join(self.regions)}; of {known}"
            )

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each number."""
        for number in NUMBERS:
            if number.region not in self.regions:
                continue
            words = _compiled(number.words)
            for match in _compiled(f"{ALONE_BEFORE}(?:{number.form}){ALONE_AFTER}").finditer(text):
                if (not number.words or before(text, match.start(), words)) and _is_valid(number, match[0]):
                    yield match.span()

    def found_anywhere(self, value: str) -> bool:
        """Return whether `value` is a number, if its word stands before it."""
        of_regions = (number for number in NUMBERS if number.region in self.regions)
        return any(_compiled(number.form).fullmatch(value) and _is_valid(number, value) for number in of_regions)

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return a number of the same form that fails the checks."""
        return draw.like(value)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _is_valid(number: Number, value: str) -> bool:
    if (own := _OWN.get(number.module)) is not None:
        return own("".join(value.split()).upper())
    return bool(package(f"stdnum.{number.module}", NationalId.name).is_valid(value))


def insurance_number(value: str) -> bool:
    """Return whether a British national insurance number has letters that are given out (HMRC, NIM39110)."""
    first, second = value[0], value[1]
    return not (first in "DFIQUV" or second in "DFIOQUV" or value[:2] in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"))


def pension_number(value: str) -> bool:
    """Return whether a German pension insurance number has a date and the right check digit (VKVV, section 4)."""
    day, month = int(value[2:4]), int(value[4:6])
    digits = f"{value[:8]}{ord(value[8]) - 64:02}{value[9:11]}"
    products = (int(digit) * weight for digit, weight in zip(digits, (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1), strict=True))
    return (
        1 <= day % 50 <= 31
        and 1 <= month <= 12
        and sum(sum(divmod(one, 10)) for one in products) % 10 == int(value[11])
    )


_OWN: dict[str, Callable[[str], bool]] = {"insurance_number": insurance_number, "pension_number": pension_number}
