"""Postal addresses by rules: a street with a number, as several countries write it, and what follows of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import ALONE_AFTER, ALONE_BEFORE, Kind, Slice

_UPPER = "A-Z\u00c0-\u00de\u0100-\u017f"
_NAME = rf"[{_UPPER}][\w'.-]{{1,30}}"
_NUMBER = r"\d{1,5}(?: ?[a-zA-Z](?!\w))?(?:[/-]\d{1,4}[a-zA-Z]?)?"
_OF = (
    r"(?:(?:de la|de los|de las|de l'|d'|della|delle|degli|dello|dell'|dei|del|des|du|de|di|da|do|dos|das|la|le|los|"
    r"las|the) ?)"
)
_IN = r"(?:am|an der|ob der|im|in|of|upon|on|le|la|les|de|del|sur|sous|di|aan|den|bei)"
_TOWN = rf"{_NAME}(?:[ -](?:{_IN}[ -])?{_NAME}){{0,3}}"
_GAP = r"(?: ?[,\n\u00b7\u2022-][ \n]?| )"

_OWN_WORD = (  # of German and Dutch, at the end of the name or by itself
    r"(?i:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ufer|damm|chaussee|stieg|steig|graben|straat|laan|plein|gracht|kade|"
    r"singel|dijk|dreef|plantsoen|markt|ring|hof)"
)
_AT = r"(?:Am|An der|An den|Auf dem|Auf der|Im|In der|In den|Zum|Zur|Unter den|Unter der|Alter|Alte|Op de)"
_ENGLISH = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Square|Sq|Terrace|Ter|Place|Pl|Way|Close|"
    r"Crescent|Cres|Highway|Hwy|Parkway|Pkwy|Gardens|Grove|Row|Hill|Mews|Circle|Cir|Trail|Trl|Alley|Loop|Plaza|Walk|"
    r"Park|Green|Rise|View)\b\.?"
)
_FRENCH = (
    r"(?i:rue|avenue|av\.|boulevard|bd\.?|place|chemin|allée|impasse|quai|cours|route|square|passage|sentier|faubourg|"
    r"villa)"
)
_ROMANCE = (  # Spanish, Italian, Portuguese
    r"(?i:calle|c/|avenida|avda\.?|av\.|paseo|plaza|carrera|camino|ronda|glorieta|pasaje|via|viale|v\.le|piazza|piazzale|"
    r"corso|largo|vicolo|strada|rua|travessa|praça|alameda|estrada|rodovia|pl\.)"
)
_BOX = r"(?:P\.? ?O\.? Box|Postfach|Postbus|Apartado(?: de Correos)?|Casella Postale|Boîte Postale|BP|Caixa Postal)"
_STREETS = (
    rf"(?:{_NAME}[ -]){{1,3}}{_OWN_WORD} {_NUMBER}",  # Berliner Straße 5
    rf"[{_UPPER}][\w.-]{{0,30}}{_OWN_WORD} {_NUMBER}",  # Hauptstraße 5, Prinsengracht 263
    rf"{_AT} {_NAME}(?: {_NAME})? {_NUMBER}",  # Am Alten Markt 12a
    # 221B Baker Street, 1600 W. 5th Ave NW
    rf"\d{{1,5}}[a-zA-Z]?,? (?:[NSEW]{{1,2}}\.? )?(?:(?:{_NAME}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}{_ENGLISH}"
    r"(?: [NSEW]{1,2}\b\.?)?",
    # 12 bis, rue de la Paix
    rf"\d{{1,4}}(?: ?(?:bis|ter|quater|[a-zA-Z]))?,? {_FRENCH} {_OF}{{0,2}}{_NAME}(?:[ -]{_OF}?{_NAME}){{0,4}}",
    # Calle de Alcalá, 42; Via Roma 12; Rua Augusta, nº 10
    rf"{_ROMANCE} ?{_OF}{{0,2}}{_NAME}(?: {_OF}?{_NAME}){{0,4}},? (?:n[.ºo°]{{1,2}} ?|núm\.? |numero )?{_NUMBER}",
    rf"{_BOX} (?:\d{{1,4}} ?){{1,3}}",
)
_FLAT = (
    rf"(?:{_GAP}(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|App|Appt|Wohnung|Stock|Etage|piso|int|scala|bloco)\b\.? ?"
    rf"#?[\w.-]{{1,6}}|{_GAP}#\d{{1,5}}\w?|,? \d{{1,2}}[.ºª°] ?[A-Za-z]?\b)"
)
_PLACES = (
    # 10115 Berlin, 1012 AB Amsterdam
    rf"(?:[A-Z]{{1,2}}-)?\d{{4,5}}(?: ?[A-Z]{{2}})? {_TOWN}(?: \(\w{{2}}\)| [A-Z]{{2}}\b)?(?: CEDEX)?",
    rf"{_TOWN},? [A-Z]{{2}}\.?,? \d{{5}}(?:-\d{{4}})?",  # Springfield, IL 62704
    rf"{_TOWN},? [A-Z]{{1,2}}\d[A-Z\d]? ?\d[A-Z]{{2}}",  # London NW1 6XE
    rf"{_TOWN},? (?:[A-Z]{{2}},? )?\d{{5}}(?:-\d{{3,4}})?",  # São Paulo, SP 01310-100
    r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}",
    r"\d{5}(?:-\d{3,4})?(?![\d-])",
)
_TAIL = rf"{_FLAT}{{0,2}}(?:{_GAP}{{1,2}}(?:{'|'.join(_PLACES)}))?"
_PATTERNS = tuple(re.compile(f"{ALONE_BEFORE}(?:{street}){_TAIL}{ALONE_AFTER}") for street in _STREETS)


@dataclass(frozen=True)
class Address(Kind):
    """Addresses in forms of German, English, Dutch, French, Spanish, Italian and Portuguese.

    A street without a number, or a town alone, is none; streets whose name has no word such as *street* are not found.
    """

    name: ClassVar[str] = "address"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each address, its postal code and its town included."""
        for pattern in _PATTERNS:
            for match in pattern.finditer(text):
                yield match.span()

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return other words and numbers in the same form, of no language, so that there is no such street."""
        return re.sub(r"\w+", lambda word: draw.of(word[0].casefold()).like(word[0]), value)
