"""What each kind finds, what it leaves, and what stands in its place."""

from __future__ import annotations

import re
import time

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn

from peftlab.personal_data.kinds import kinds
from peftlab.personal_data.masker import REGIONS, Masker
from peftlab.personal_data.plain_text import plain_text

FOUND = {
    "email": (
        "bob@acme.co.uk",
        "b.o-b+x@mail.acme.org",
        "BOB@ACME.ORG",
        "jürgen@müller.de",
        "bob (at) acme.org",
        "bob [at] acme [dot] org",
        "bob%40acme.org",
        '"b o"@acme.org',
        "bob@192.168.1.20",
        "bob\uff20acme.org",
        "b\u200bob@acme.org",
    ),
    "phone": (
        "+49 30 901820",
        "030 901820",
        "(212) 736-5000",
        "+1-212-736-5000",
        "+44 (0)20 7946 0018",
        "01 42 68 53 00",
        "+33.1.42.68.53.00",
        "0049 30 901820",
        "\uff0b49 30 901820",
        "030\u00a0901820",
        "212-736-5000 ext. 12",
    ),
    "iban": (
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "GB82-WEST-1234-5698-7654-32",
        "nl91abna0417164300",
        "FR14\u00a02004\u00a01010\u00a00505\u00a00001\u00a03M02\u00a0606",
    ),
    "card": (
        "4111 1111 1111 1111",
        "4111111111111111",
        "3782-822463-10005",
        "\uff14111 1111 1111 1111",
        "5105105105105100",
    ),
    "national_id": (
        "536-90-4399",
        "AB 12 34 56 C",
        "12345678Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "2 69 05 49 588 157 80",
        "86 095 742 719",
        "65 170839 J 003",
    ),
    "ip": ("10.2.3.4", "8.8.8.8", "2a00:1450:4001:81b::200e", "fe80::1ff:fe23:4567:890a"),
    "mac": ("00:1B:44:11:3A:B7", "00-1b-44-11-3a-b7", "001b.4411.3ab7"),
    "url": ("bob:secret@host.org", "bob@host.org:8080", "bob:p@ss@host.org"),
    "address": (
        "221B Baker Street, London NW1 6XE",
        "Hauptstraße 5a, 10115 Berlin",
        "Am Alten Markt 12",
        "12 bis, rue de la Paix",
        "Calle de Alcalá, 42, 28014 Madrid",
        "Via Roma 12, 00184 Roma",
        "Prinsengracht 263, 1016 GV Amsterdam",
        "1600 Pennsylvania Ave NW, Washington, DC 20500",
        "P.O. Box 1234",
        "12 Mill Lane\nOxford\nOX1 2AB",
    ),
    "birth_date": ("12.03.1985", "March 12, 1985", "12 mars 1985", "1985-03-12", "12/03/85", "3 de mayo de 1985"),
}
IN = {"birth_date": "born on {}", "url": "see https://{}/x", "national_id": "({})"}

LEFT = {
    "email": ("@someone", "a@b", "me @ home", "bob@host.invalid", "x@@y.org"),
    "phone": (
        "2019-03-04 12:30",
        "12.03.2024",
        "from 1999 to 2004",
        "order no. 2127365000",
        "2127365000",
        "ISBN 978-3-16-148410-0",
        "1 2 3 4 5 6 7 8 9",
        "version 030.901.820",
        "Artikel 030 901820",
    ),
    "iban": ("DE88 3704 0044 0532 0130 00", "GB82 WEST", "DE8937040044053201300012"),
    "card": ("4111 1111 1111 1112", "1234 5678 9012 3456", "94111111111111111"),
    "national_id": ("000-12-3456", "666-12-3456", "GB 12 34 56 C", "12345678A", "123456789"),
    "ip": ("127.0.0.1", "version 1.2.3.4", "1.2.3", "1.2.3.4.5", "300.1.1.1", "12:30:45", "std::vector", "a::b", "::"),
    "mac": ("ff:ff:ff:ff:ff:ff", "00:1B:44:11:3A", "12:30:45"),
    "url": ("https://host.org/a@b", "https://host.org", "a://@x"),
    "address": ("5 apples", "Main Street", "in Berlin", "a way out of 5"),
    "birth_date": ("on 12.03.1985", "born in 1985", "born on 12.03.1785", "born. We met on 12.03.1985"),
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_kind_finds_its_own_and_nothing_else(name):
    masker = Masker(kinds=(name,))
    for value in FOUND[name]:
        text = IN.get(name, "It is {} now.").format(value)
        assert [text[one.start : one.end] for one in masker.find(text)] == [value]
    for value in LEFT[name]:
        assert masker.find(value if name == "url" else f"It is {value} now.") == [], value


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_surrogate_has_the_form_and_is_never_found(name):
    every = Masker()
    one, other = (Masker(with_="surrogate", key=key) for key in (b"k" * 16, b"l" * 16))
    for value in FOUND[name]:
        text = IN.get(name, "It is {} now.").format(value)
        new = one.mask(text).text
        assert new not in (text, other.mask(text).text)
        assert new == one.mask(text).text
        assert f"[{name.upper()}]" not in new
        assert not [one for one in every.find(new) if one.kind == name]
        if name in ("iban", "card", "mac"):
            assert _form(new) == _form(plain_text(text).text)


def _form(text: str) -> str:
    return re.sub(r"[^\W_]", "0", text)


def test_one_person_has_one_surrogate_however_it_is_written():
    masker = Masker(with_="surrogate", key=b"k" * 16)
    for first, second in (
        ("DE89 3704 0044 0532 0130 00", "de89370400440532013000"),
        ("4111 1111 1111 1111", "4111-1111-1111-1111"),
        ("bob@acme.org", "BOB@acme.org"),
        ("bob (at) acme.org", "bob (at) acme (dot) org"),
        ("0049 30 901820", "0049-30/901820"),
    ):
        one, other = (re.sub(r"\W", "", masker.mask(text).text).casefold() for text in (first, second))
        assert one == other


def test_numbers_agree_with_the_libraries():
    masker = Masker(kinds=("iban", "card", "phone"))
    for region in REGIONS:
        example = phonenumbers.example_number(region)
        for form in (phonenumbers.PhoneNumberFormat.NATIONAL, phonenumbers.PhoneNumberFormat.INTERNATIONAL):
            text = f"Tel: {phonenumbers.format_number(example, form)}"
            assert [one.kind for one in masker.find(text)] == ["phone"], text
    for start in range(4_000_000_000_000_000, 4_000_000_000_003_000, 37):
        assert bool(masker.find(f"<{start}>")) == luhn.is_valid(str(start))
    for check in range(100):
        number = f"DE{check:02}370400440532013000"
        assert bool(masker.find(f"<{number}>")) == iban.is_valid(number)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60), st.sampled_from(sorted(FOUND)), st.data())
def test_what_stands_around_a_value_changes_nothing(around, name, data):
    """Arbitrary text on lines of its own before and after hides no value, and raises nothing."""
    value = data.draw(st.sampled_from(FOUND[name]))
    line = IN.get(name, "It is {} now.").format(value)
    text = f"{around}\n\n{line}\n\n{around}"
    start = text.index(line) + line.index(value)
    covered = {place for one in Masker().find(text) for place in range(one.start, one.end)}
    assert all(n in covered for n in range(start, start + len(value)) if text[n].isalnum() and name != "url")


@pytest.mark.exhaustive
def test_reading_takes_time_in_proportion_to_length():
    """Texts made to be slow: twice as long takes about twice as long, for each kind."""
    masker = Masker()
    units = ("1 ", "12 ", "0 ", "(+", "@", "a@", "://", "DE00 ", "rue de la Aa ", "5 Aa ", "A.", "1/1/", "a:")
    for unit in units:
        long = unit * (20_000 // len(unit))
        for kind in (kinds()[name](masker.regions) for name in masker.kinds):
            began = time.process_time()
            for _ in kind.find(long):
                pass
            assert time.process_time() - began < 8, (unit, kind.name)  # quadratic: a minute
