from __future__ import annotations

import pickle
import sys

import pytest

from peftlab.errors import ConfigError, DataError
from peftlab.personal_data.key import digest_of, new_key, read_key
from peftlab.personal_data.masker import Masker

KEY = b"0123456789abcdef"


def test_what_is_refused_is_named_and_not_shown():
    with pytest.raises(DataError) as error:
        Masker(with_="refuse").mask("Ask bob@acme.org or +49 30 901820")
    assert "email at characters 4 to 16, phone at characters 20 to 33" in str(error.value)
    assert "bob" not in str(error.value)
    assert "901820" not in str(error.value)


def test_what_overlaps_is_one():
    masker = Masker()
    (one,) = masker.find("see https://bob:pw@acme.org/x")
    assert one.kind == "url"
    (one,) = masker.find("DE89 3704 0044 0532 0130 00")
    assert one.kind == "iban"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at 192.168.123.202 555 0143", "at [IP]"),
        ("call 030 23125100 00:1A:2B:3C:4D:5E", "call [MAC]"),
        ("4111 1111 1111 1111.bob@acme.org", "[CARD]"),
    ],
)
def test_values_of_several_kinds_that_run_into_each_other_have_no_surrogate(text, masked):
    assert Masker().mask(text).text == masked
    assert Masker(with_="surrogate", key=KEY).mask(text).text == masked


def test_names_come_from_outside():
    def names(texts):
        return [[(text.index("Bob Roe"), text.index("Bob Roe") + 7)] if "Bob Roe" in text else [] for text in texts]

    assert Masker(names=names).mask("I am Bob Roe, bob@acme.org").text == "I am [NAME], [EMAIL]"
    keyed = Masker(with_="surrogate", key=KEY, names=names)
    first, second = keyed.mask("Bob Roe").text, keyed.mask("Hello Bob Roe").text
    assert second == f"Hello {first}"
    assert first.istitle()
    assert len(first.split()) == 2
    with pytest.raises(ConfigError, match="belong together"):
        Masker(kinds=("name",))


def test_options_that_cannot_be():
    for options, message in (
        ({"kinds": ("mail",)}, "Did you mean 'email'"),
        ({"with_": "surrogate"}, "give both, or neither"),
        ({"key": KEY}, "give both, or neither"),
        ({"regions": ("XX",)}, "XX"),
        ({"kinds": ("national_id",), "regions": ("JP",)}, "knows no number of JP"),
    ):
        with pytest.raises(ConfigError, match=message):
            Masker(**options)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(ConfigError, match=r"peftlab\[privacy\]"):
        Masker(kinds=("phone",))
    assert Masker(kinds=("email",)).mask("bob@acme.org").text == "[EMAIL]"


def test_it_goes_to_other_processes():
    masker = Masker(with_="surrogate", key=KEY)
    text = "bob@acme.org, +49 30 901820"
    assert pickle.loads(pickle.dumps(masker)).mask(text) == masker.mask(text)
    assert KEY.decode() not in repr(masker)


def test_keys(tmp_path):
    file = tmp_path / "key"
    new_key(file)
    assert file.stat().st_mode & 0o077 == 0
    key = read_key(file)
    assert len(key) == 64
    assert digest_of(key) != digest_of(KEY)
    assert key.decode() not in digest_of(key)
    with pytest.raises(ConfigError, match="cannot be written"):
        new_key(file)
    file.write_bytes(b"short\n")
    with pytest.raises(ConfigError, match="5 bytes"):
        read_key(file)
    with pytest.raises(ConfigError, match="--new-key"):
        read_key(tmp_path / "none")
