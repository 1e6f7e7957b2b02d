"""Texts with personal data in known places: 500 of each kind in seven languages, and as many without any.

    python experiments/personal_data/generate.py --out texts.jsonl [--of-kind 500] [--seed 0]

Values are Faker's, or valid numbers drawn with `phonenumbers`; the sentences around them are our own. Every value is
written as people write it: grouped or not, in brackets, with no-break spaces, now and then in full-width digits.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

import phonenumbers
from faker import Faker
from stdnum import luhn
from stdnum.de import idnr
from stdnum.gb import nhs

LOCALES = {"en": "en_US", "gb": "en_GB", "de": "de_DE", "fr": "fr_FR", "es": "es_ES", "it": "it_IT", "nl": "nl_NL"}
REGIONS = {"en": "US", "gb": "GB", "de": "DE", "fr": "FR", "es": "ES", "it": "IT", "nl": "NL"}

AROUND = {
    "en": [
        "Please use {} from now on.",
        "My details: {}, thank you.",
        "I wrote to you about {} on Monday and nobody answered.",
        "We have {} on file, is that still right?",
        "({})",
        "New: {}; the old one is closed.",
    ],
    "gb": [
        "Could you change it to {} please?",
        "The customer gave {} and hung up.",
        "As discussed: {} - regards, the team",
        "Forms were sent with {}, twice.",
        "[{}] see the note below",
        "It ought to say {}.",
    ],
    "de": [
        "Bitte verwenden Sie ab sofort {}.",
        "Meine Daten: {}, vielen Dank!",
        "Ich habe {} angegeben, aber nichts gehört.",
        "Stimmt {} noch?",
        "({})",
        "Neu: {}; das alte gilt nicht mehr.",
    ],
    "fr": [
        "Merci d'utiliser {} désormais.",
        "Mes coordonnées : {}, merci.",
        "J'ai indiqué {} sur le formulaire.",
        "Est-ce que {} est toujours valable ?",
        "({})",
        "Nouveau : {} ; l'ancien est fermé.",
    ],
    "es": [
        "Por favor use {} desde ahora.",
        "Mis datos: {}, gracias.",
        "Puse {} en el formulario y nadie contesta.",
        "¿Sigue siendo {}?",
        "({})",
        "Nuevo: {}; el anterior ya no vale.",
    ],
    "it": [
        "Usi {} da oggi, per favore.",
        "I miei dati: {}, grazie.",
        "Ho scritto {} sul modulo ieri.",
        "È ancora {}?",
        "({})",
        "Nuovo: {}; il vecchio è chiuso.",
    ],
    "nl": [
        "Gebruik voortaan {} alstublieft.",
        "Mijn gegevens: {}, dank u.",
        "Ik heb {} ingevuld en niets gehoord.",
        "Klopt {} nog?",
        "({})",
        "Nieuw: {}; het oude is gesloten.",
    ],
}
"""Sentences of each language; they say nothing about the kind of what they hold."""

OWN = {
    "phone": {
        "en": ["Call me at {} after six.", "Tel: {}", "phone {}"],
        "gb": ["Ring {} any time.", "Mobile: {}"],
        "de": ["Sie erreichen mich unter {}.", "Tel. {}", "Handy: {}"],
        "fr": ["Appelez le {} svp.", "Tél. : {}"],
        "es": ["Llámame al {} mañana.", "Móvil: {}"],
        "it": ["Chiamami al {} stasera.", "Cell. {}"],
        "nl": ["Bel me op {} vanavond.", "Mobiel: {}"],
    },
    "address": {
        "en": ["I live at {}.", "Ship it to {}."],
        "gb": ["We moved to {} in May.", "Send the bill to {}."],
        "de": ["Ich wohne in der {}.", "Lieferung an: {}."],
        "fr": ["J'habite au {}.", "Livraison : {}."],
        "es": ["Vivo en {}.", "Enviar a {}."],
        "it": ["Abito in {}.", "Spedire a {}."],
        "nl": ["Ik woon op {}.", "Bezorgen op {}."],
    },
    "birth_date": {
        "en": ["She was born on {} in Ohio.", "DOB: {}", "Date of birth: {}.", "born {}"],
        "gb": ["He was born on {}.", "D.O.B. {}", "birthday: {}"],
        "de": ["Er ist am {} geboren.", "geb. am {}", "Geburtsdatum: {}", "geboren {} in Bonn"],
        "fr": ["Elle est née le {} à Lyon.", "Date de naissance : {}", "né le {}"],
        "es": ["Nació el {} en Lugo.", "Fecha de nacimiento: {}", "nacida el {}"],
        "it": ["È nato il {} a Bari.", "Data di nascita: {}", "nata il {}"],
        "nl": ["Zij is geboren op {} in Gouda.", "Geboortedatum: {}", "geb. {}"],
    },
    "national_id": {
        "en": ["My SSN is {}.", "Social security number {}"],
        "gb": ["NHS number {}", "My NHS no. is {}."],
        "de": ["Meine Steuer-ID lautet {}.", "IdNr. {}"],
        "nl": ["Mijn BSN is {}.", "burgerservicenummer: {}"],
    },
}
"""Sentences that say what they hold; other kinds have those of `AROUND`."""

NOTHING = [
    "Order {n8} shipped on {date} for {n3}.99 EUR.",
    "Rechnung Nr. {n10} vom {date} über {n3},00 €.",
    "ISBN 978-3-16-1484{n2}-0, {n3} pages, {year}.",
    "Version 10.{n1}.2.{n1} of the driver fails on build 19.2.{n1}.{n1}.",
    "The years {year}-{year} and {year} were dry.",
    "Tracking number 1Z{n8}{n8} is on its way since {date}.",
    "Coordinates 52.52{n3}, 13.40{n3}, altitude {n3} m.",
    "Commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b fixed it in {year}.",
    "Ticket #{n6} was closed at 12:{n2s}:{n2s} after {n2} replies.",
    "The score was {n2}-{n2}, then {n3}-{n3} in {year}.",
    "Artikelnummer {n8}-{n4} ist nicht lieferbar.",
    "Measured {n1}.{n4}e-{n2} over {n5} samples at {n4} Hz.",
    "Lot {n4} {n4} {n4} {bad4} was returned.",
    "Modelo {n4}-{n4}-{n4}, serie {n8}, año {year}.",
    "Uuid 123e4567-e89b-12d3-a456-42661417{n4} not found.",
    "Le prix est passé de {n3} à {n4} euros entre {year} et {year}.",
    "We met on {date} at 10:30 in room {n3}.",
    "Twitter @someone{n2} liked it {n3} times; see page {n3}.",
    "GB{n2} {n4} {n4} {n4} is a flight plan, not an account.",
    "Ratio {n2}/{n2}/{n2}, section 4.{n1}.{n1}.{n1}, table {n2}.",
    "Il volo AZ {n4} del {date} costa {n3},50.",
    "Dial-in code {n4}# and then the meeting {n3} {n3} {n3}.",
    "Street lights: 5 of 120 in the Place failed in {year}.",
    "std::vector<a::b> x = {n3}; // {n2}:{n2}",
]


class Values:
    """Draws values of each kind."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.faker = {language: Faker(locale) for language, locale in LOCALES.items()}
        for number, one in enumerate(self.faker.values()):
            one.seed_instance(seed * 100 + number)

    def email(self, language: str) -> str:
        address = self.faker[language].email(safe=False)
        local, _, domain = address.partition("@")
        form = self.random.random()
        if form < 0.1:
            return f"{local}+news{self.random.randint(1, 99)}@mail.{domain}"
        if form < 0.15:
            return address.upper()
        if form < 0.18:
            return f"{local} (at) {domain}"
        if form < 0.2:
            return address.replace("@", "\uff20")
        return address

    def phone(self, language: str) -> str:
        region = REGIONS[language]
        kinds = [phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE]
        while True:
            example = phonenumbers.example_number_for_type(region, self.random.choice(kinds))
            digits = str(example.national_number)
            keep = self.random.randint(2, 4)
            drawn = digits[:keep] + "".join(self.random.choice("0123456789") for _ in digits[keep:])
            number = phonenumbers.parse(
                f"+{example.country_code}{'0' * bool(example.italian_leading_zero)}{drawn}", None
            )
            if phonenumbers.is_valid_number(number) and phonenumbers.region_code_for_number(number) == region:
                break
        forms = phonenumbers.PhoneNumberFormat
        form = self.random.choice(
            [forms.NATIONAL, forms.NATIONAL, forms.INTERNATIONAL, forms.INTERNATIONAL, forms.E164]
        )
        written = phonenumbers.format_number(number, form)
        if self.random.random() < 0.1:
            written = written.replace(" ", self.random.choice(["\u00a0", "-", ".", "\u2011", "/"]))
        return self._wide(written)

    def iban(self, language: str) -> str:
        number = self.faker[language if language != "en" else "gb"].iban()
        if self.random.random() < 0.6:
            gap = "\u00a0" if self.random.random() < 0.15 else " "
            number = gap.join(number[n : n + 4] for n in range(0, len(number), 4))
        return number.lower() if self.random.random() < 0.05 else number

    def card(self, language: str) -> str:
        number = self.faker[language].credit_card_number()
        if self.random.random() < 0.6 and len(number) == 16:
            gap = self.random.choice([" ", " ", "-", "\u00a0"])
            number = gap.join(number[n : n + 4] for n in range(0, 16, 4))
        elif self.random.random() < 0.6 and len(number) == 15:
            number = f"{number[:4]} {number[4:10]} {number[10:]}"
        return self._wide(number)

    def national_id(self, language: str) -> str:
        fake = self.faker[language]
        if language == "gb":
            if self.random.random() < 0.5:
                while not nhs.is_valid(number := "".join(self.random.choice("0123456789") for _ in range(10))):
                    pass
                return self.random.choice([number, nhs.format(number)])
            return self._insurance_number()
        if language == "de":
            while not idnr.is_valid(number := self._tax_id()):
                pass
            return self.random.choice([number, idnr.format(number)])
        if language == "es":
            return self.random.choice([fake.nif, fake.nie])()
        return str(fake.ssn())

    def _insurance_number(self) -> str:
        first, second = self.random.choice("ABCEGHJKLMNPRSTWXYZ"), self.random.choice("ABCEGHJKLMPRSTWXYZ")
        while first + second in ("GB", "BG", "NK", "KN", "TN", "NT", "ZZ"):
            second = self.random.choice("ABCEHJLMPRSTWXY")
        numbers = [f"{self.random.randint(0, 99):02}" for _ in range(3)]
        return self.random.choice(["", " "]).join([first + second, *numbers, self.random.choice("ABCD")])

    def _tax_id(self) -> str:
        digits = self.random.sample("0123456789", 9)
        digits.insert(self.random.randint(1, 9), self.random.choice(digits))
        number = "".join(digits)
        return next((number + check for check in "0123456789" if idnr.is_valid(number + check)), "0")

    def ip(self, language: str) -> str:
        fake = self.faker[language]
        return self.random.choice([fake.ipv4_public, fake.ipv4_private, fake.ipv6])()

    def mac(self, language: str) -> str:
        address = self.faker[language].mac_address()
        plain = address.replace(":", "")
        return self.random.choice([address, address.upper().replace(":", "-"), f"{plain[:4]}.{plain[4:8]}.{plain[8:]}"])

    def url(self, language: str) -> str:
        fake = self.faker[language]
        return f"{fake.user_name()}:{fake.password(special_chars=False)}@{fake.domain_name()}"

    def address(self, language: str) -> str:
        fake = self.faker[language]
        whole = fake.address() if self.random.random() < 0.7 else fake.street_address()
        return whole.replace("\n", self.random.choice([", ", "\n"]))

    def birth_date(self, language: str) -> str:
        day = self.faker[language].date_of_birth(minimum_age=1, maximum_age=95)
        months = MONTHS[language if language != "gb" else "en"].split()
        name = months[day.month - 1]
        forms = {
            "en": [f"{day:%m/%d/%Y}", f"{name} {day.day}, {day.year}", f"{day:%m/%d/%y}", f"{day:%Y-%m-%d}"],
            "gb": [f"{day:%d/%m/%Y}", f"{day.day} {name} {day.year}", f"{day.day}th of {name} {day.year}"],
            "de": [
                f"{day:%d.%m.%Y}",
                f"{day.day}. {name} {day.year}",
                f"{day.day}.{day.month}.{day.year}",
                f"{day:%d.%m.%y}",
            ],
            "fr": [f"{day:%d/%m/%Y}", f"{day.day} {name} {day.year}"],
            "es": [f"{day:%d/%m/%Y}", f"{day.day} de {name} de {day.year}", f"{day:%d-%m-%Y}"],
            "it": [f"{day:%d/%m/%Y}", f"{day.day} {name} {day.year}", f"{day:%d.%m.%Y}"],
            "nl": [f"{day:%d-%m-%Y}", f"{day.day} {name} {day.year}"],
        }
        return self.random.choice(forms[language])

    def name(self, language: str) -> str:
        fake = self.faker[language]
        return f"{fake.first_name()} {fake.last_name()}"

    def _wide(self, value: str) -> str:
        """Return the value, three times in a hundred in full-width digits or with a zero-width space."""
        form = self.random.random()
        if form < 0.015:
            return "".join(chr(ord(one) + 0xFEE0) if one.isdigit() else one for one in value)
        return f"{value[:5]}\u200b{value[5:]}" if form < 0.03 else value


MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
}
KINDS = ("email", "phone", "iban", "card", "national_id", "ip", "mac", "url", "address", "birth_date")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--of-kind", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    values = Values(options.seed)
    rows = []
    for kind in KINDS:
        draw: Callable[[str], str] = getattr(values, kind)
        for n in range(options.of_kind):
            language = list(LOCALES)[n % len(LOCALES)]
            value = draw(language)
            own = OWN.get(kind, {}).get(language)
            frame = values.random.choice(own or AROUND[language])
            frame = f"https://{frame}/path" if kind == "url" and frame == "({})" else frame
            if kind == "url":
                frame = frame.replace("{}", "https://{}/a/b")
            start = frame.index("{}")
            rows.append(
                {
                    "kind": kind,
                    "language": language,
                    "text": frame.replace("{}", value),
                    "start": start,
                    "end": start + len(value),
                }
            )
    rows += [{"kind": None, "text": nothing(values.random)} for _ in range(options.of_kind)]
    options.out.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")


def nothing(draw: random.Random) -> str:
    """Return a text with numbers that are nobody's."""
    text = draw.choice(NOTHING)
    while True:
        parts = {f"n{n}": "".join(draw.choice("123456789") for _ in range(n)) for n in range(1, 11)}
        day, month, year = draw.randint(1, 28), draw.randint(1, 12), draw.randint(1950, 2026)
        date = draw.choice(
            [f"{year}-{month:02}-{day:02}", f"{day:02}.{month:02}.{year}", f"{month:02}/{day:02}/{year}"]
        )
        bad = next(last for last in map(str, range(1000, 10000)) if not luhn.is_valid(parts["n4"] * 3 + last))
        return text.format(**parts, date=date, year=year, n2s=f"{draw.randint(0, 59):02}", bad4=bad)


if __name__ == "__main__":
    main()
