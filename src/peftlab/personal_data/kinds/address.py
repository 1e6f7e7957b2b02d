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
_IN = r"(?:am|an der|ob der|im|in|of|upon|on|le|la|les|de|del|sur|sous|di|aan|den|bei|a|nell'|dell'|l')"
_TOWN = rf"{_NAME}(?:[ -](?:{_IN}[ -]?)?{_NAME}){{0,3}}"
_GAP = r"(?: ?[,\n\u00b7\u2022-][ \n]?| )"
_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}"
"""British; its end has no C, I, K, M, O or V."""

_OWN_WORD = (  # of German and Dutch, at the end of the name or by itself
    r"(?i:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|ufer|damm|chaussee|stieg|steig|graben|straat|laan|plein|gracht|kade|"
    r"singel|dijk|dreef|plantsoen|markt|ring|hof|baan|pad|steeg|boulevard)"
)
_AT = r"(?:Am|An der|An den|Auf dem|Auf der|Im|In der|In den|Zum|Zur|Unter den|Unter der|Alter|Alte|Op de)"
_ENGLISH = (  # the suffixes of US Postal Service Publication 28, and British ones
    r"(?i:alley|annex|arcade|ave|avenue|bayou|beach|bend|bluff|blvd|bottom|boulevard|branch|bridge|brook|burg|bypass|"
    r"camp|canyon|cape|causeway|center|centre|cir|circle|cliff|close|club|common|corner|course|court|cove|creek|cres|"
    r"crescent|crest|crossing|crossroad|ct|curve|dale|dam|divide|dr|drive|estate|expressway|extension|fall|ferry|field|"
    r"flat|ford|forest|forge|fork|fort|freeway|garden|gateway|glen|green|grove|harbor|haven|height|highway|hill|hollow|"
    r"hwy|inlet|island|isle|junction|key|knoll|lake|land|landing|lane|light|ln|loaf|lock|lodge|loop|mall|manor|meadow|"
    r"mews|mill|mission|motorway|mount|mountain|neck|orchard|oval|overpass|park|parkway|pass|passage|path|pike|pine|"
    r"pkwy|pl|place|plain|plaza|point|port|prairie|radial|ramp|ranch|rapid|rd|rest|ridge|rise|river|road|route|row|rue|"
    r"run|shoal|shore|skyway|spring|spur|sq|square|st|station|stravenue|stream|street|summit|ter|terrace|throughway|"
    r"trace|track|trafficway|trail|trl|tunnel|turnpike|underpass|union|valley|viaduct|view|village|ville|vista|walk|"
    r"wall|way|well)s?\b\.?"
)
_FRENCH = (
    r"(?i:rue|avenue|av\.|boulevard|bd\.?|place|chemin|allée|impasse|quai|cours|route|square|passage|sentier|faubourg|"
    r"villa)"
)
_ROMANCE = (  # Spanish, Italian, Portuguese
    r"(?i:calle|c/|c\.|acceso|avenida|avda\.?|av\.|callejón|camino|cañada|carrer|carrera|cuesta|glorieta|pasadizo|pasaje|"
    r"paseo|plaza|rambla|ronda|urbanización|vial|via|viale|v\.le|piazza|piazzale|corso|largo|vicolo|strada|borgo|"
    r"contrada|rotonda|incrocio|stretto|canale|rua|travessa|praça|alameda|estrada|rodovia|pl\.)"
)
_ROMANCE_STREET = rf"{_ROMANCE} ?{_OF}{{0,2}}{_NAME}(?: {_OF}?{_NAME}){{0,4}}"
_FRENCH_STREET = rf"{_FRENCH} {_OF}{{0,2}}{_NAME}(?:[ -]{_OF}?{_NAME}){{0,4}}"
_BOX = r"(?:P\.? ?O\.? Box|Postfach|Postbus|Apartado(?: de Correos)?|Casella Postale|Boîte Postale|BP|Caixa Postal)"
_FLAT = (
    rf"(?:{_GAP}(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|App|Appt|Appartamento|Appartement|Wohnung|Stock|Etage|Piso|"
    rf"Puerta|Piano|int|scala|bloco)\b\.? ?#?[\w.-]{{1,6}}|{_GAP}#\d{{1,5}}\w?|,? \d{{1,2}}[.ºª°] ?[A-Za-z]?\b)"
)
_PLACE = "|".join(
    (
        # 10115 Berlin, 1012 AB Amsterdam, 65011, Catignano (PE)
        rf"(?:[A-Z]{{1,2}}-)?\d{{4,5}}(?: ?[A-Z]{{2}})?(?:, ?|[\n ]){_TOWN}(?: \(\w{{2}}\)| [A-Z]{{2}}\b)?(?: CEDEX)?",
        rf"{_TOWN},? [A-Z]{{2}}\.?,? \d{{5}}(?:-\d{{4}})?",  # Springfield, IL 62704
        rf"{_TOWN}[,\n ] ?{_POSTCODE}",  # London NW1 6XE
        rf"{_TOWN},? (?:[A-Z]{{2}},? )?\d{{5}}(?:-\d{{3,4}})?",  # São Paulo, SP 01310-100
        _POSTCODE,
        r"\d{5}(?:-\d{3,4})?(?![\d-])",
    )
)
_THERE = rf"{_FLAT}{{0,2}}{_GAP}{{1,2}}(?:{_PLACE})"
_MAYBE_THERE = rf"{_FLAT}{{0,2}}(?:{_GAP}{{1,2}}(?:{_PLACE}))?"
_ADDRESSES = (
    rf"(?:{_NAME}[ -]){{1,3}}{_OWN_WORD} {_NUMBER}{_MAYBE_THERE}",  # Berliner Straße 5
    rf"[{_UPPER}][\w.-]{{0,30}}{_OWN_WORD} {_NUMBER}{_MAYBE_THERE}",  # Hauptstraße 5, Prinsengracht 263
    rf"{_AT} {_NAME}(?: {_NAME})? {_NUMBER}{_MAYBE_THERE}",  # Am Alten Markt 12a
    # 221B Baker Street, 1600 W. 5th Ave NW
    rf"\d{{1,5}}[a-zA-Z]?,? (?:[NSEW]{{1,2}}\.? )?(?:(?:{_NAME}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}{_ENGLISH}"
    rf"(?: [NSEW]{{1,2}}\b\.?)?{_MAYBE_THERE}",
    rf"(?:Flat|Studio|Unit|Apt)\.? ?\w{{1,5}}[,\n] ?(?:{_NAME} ){{1,3}}{_ENGLISH}{_MAYBE_THERE}",  # Flat 7, Mill Lane
    # Flat 4\nMill lane\nEast Molly\nBA1 5RT: a British postcode, and up to four parts before it
    rf"(?:(?:Flat|Studio|Unit|Apt)\.? ?\w{{1,5}}[,\n] ?)?(?:\d{{1,4}}[a-z]? ?)?"
    rf"(?:{_NAME}(?: [\w'-]{{2,20}}){{0,3}}[,\n] ?){{1,3}}{_POSTCODE}",
    # Unit 6541 Box 2234, DPO AP 96201: the forces of the United States
    r"(?:PSC|CMR|Unit|US[NC][SVG]?[VS]?|USS) \w{1,20}(?:,? Box \d{1,5})?[,\n] ?"
    r"(?:APO|FPO|DPO),? A[AEP] \d{5}(?:-\d{4})?",
    rf"\d{{1,4}}(?: ?(?:bis|ter|quater|[a-zA-Z]))?,? {_FRENCH_STREET}{_MAYBE_THERE}",  # 12 bis, rue de la Paix
    rf"{_FRENCH_STREET}{_THERE}",
    # Calle de Alcalá, 42; Via Roma 12; Rua Augusta, nº 10
    rf"{_ROMANCE_STREET},? (?:n[.ºo°]{{1,2}} ?|núm\.? |numero )?{_NUMBER}{_MAYBE_THERE}",
    rf"{_ROMANCE_STREET}{_THERE}",
    rf"{_BOX} (?:\d{{1,4}} ?){{1,3}}{_MAYBE_THERE}",
)
_PATTERNS = tuple(re.compile(f"{ALONE_BEFORE}(?:{address}){ALONE_AFTER}") for address in _ADDRESSES)


@dataclass(frozen=True)
class Address(Kind):
    """Addresses in forms of German, English, Dutch, French, Spanish, Italian and Portuguese.

    A street with neither a number nor a town after it, or a town alone, is none; streets whose name has no word such
    as *street* are not found.
    """

    name: ClassVar[str] = "address"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each address, its postal code and its town included."""
        for pattern in _PATTERNS:
            for match in pattern.finditer(text):
                yield match.span()

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return other words and numbers in the same form, of no language, so that there is no such street."""
        return draw.like(value)
