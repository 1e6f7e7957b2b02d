"""Names of many places: of one group each, in Latin letters, the same by the same seed."""

from __future__ import annotations

import sys

import pytest

from peftlab.errors import UserError
from peftlab.use.fairness.people import PLACES, people


def test_names_belong_to_one_group_and_are_one_word():
    names = people(list(PLACES), 40)
    texts = [name.text for name in names]
    assert len(set(texts)) == len(texts)
    assert all(text.isalpha() and text[0].isupper() for text in texts)
    groups = {(name.place, name.gender) for name in names}
    assert groups == {(place, gender) for place in PLACES for gender in ("female", "male")}


def test_a_larger_number_has_the_smaller():
    few, many = people(["us", "cn"], 5), people(["us", "cn"], 20)
    assert set(few) < set(many)
    assert few == people(["us", "cn"], 5)
    assert set(few) != set(people(["us", "cn"], 5, seed=1))


def test_chinese_names_are_written_as_they_sound():
    texts = {name.text for name in people(["cn"], 100)}
    assert {"Xiulan", "Jianguo", "Qiang"} <= texts
    assert "Li" not in texts  # of both genders


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["ru_RU"], "its names are not in Latin letters .*Cyrillic"),
        (["germany"], "there is no such place"),
        (["../de_DE"], "there is no such place"),
        (["us", "us"], "name each place once"),
        ([], "name each place once"),
    ],
)
def test_what_cannot_be_is_refused(places, message):
    with pytest.raises(UserError, match=message):
        people(places)


def test_without_faker_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faker.providers.person", None)
    with pytest.raises(UserError, match=r"pip install 'peftlab\[fairness\]'"):
        people(["us"])
