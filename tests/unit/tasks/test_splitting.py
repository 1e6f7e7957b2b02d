"""Plain text to words."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftlab.tasks.splitting import words_of


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Marie Curie moved to Paris.", "Marie|Curie|moved|to|Paris|."),
        ("a well-known, state-of-the-art idea", "a|well-known|,|state-of-the-art|idea"),
        ("the U.S. and the U.S.-led force", "the|U.S.|and|the|U.S.-led|force"),
        ("at 10:30 a.m. for $1,000.50!", "at|10:30|a.m.|for|$|1,000.50|!"),
        ("J. Smith took vitamin C.", "J.|Smith|took|vitamin|C|."),
        ("O'Brien's men don't see AT&T and/or example.com", "O'Brien|'s|men|do|n't|see|AT&T|and/or|example.com"),
        ("Germany\u2019s non\u2011stop", "Germany|\u2019s|non\u2011stop"),
        ("Germany 's EU do n't", "Germany|'s|EU|do|n't"),
        ("Paris,London;Rome", "Paris|,|London|;|Rome"),
        ("(so) ... he -- said ``yes''", "(|so|)|...|he|--|said|``|yes|''"),
        ("北京大学 in Tokyo 東京タワー。", "北|京|大|学|in|Tokyo|東|京|タ|ワ|ー|。"),
        ("서울은 큰 도시", "서울은|큰|도시"),
        ("नमस्ते दुनिया e\u0301te\u0301", "नमस्ते|दुनिया|e\u0301te\u0301"),
        ("no\u00a0break\u3000and\ttab\u2028line", "no|break|and|tab|line"),
    ],
)
def test_words(text, expected):
    assert words(text) == expected.split("|")


@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000"])
def test_nothing_has_no_words(text):
    assert words_of(text) == []


@given(st.text() | st.text(alphabet="aAé.,'\u2019-s nt0&東$:"))
def test_words_are_all_of_the_text_but_its_spaces(text):
    spans = words_of(text)
    assert all(start < end for start, end in spans)
    assert all(before <= start for (_, before), (start, _) in pairwise(spans))
    covered = {place for start, end in spans for place in range(start, end)}
    assert all(place in covered for place, character in enumerate(text) if character.isprintable() and character != " ")
    assert not any(text[place].isspace() for place in covered)


@given(st.lists(st.sampled_from(["Paris", "U.S.", "well-known", "'s", "n't", "1,000", "3.5", ",", "...", "--", "東"])))
def test_words_that_stand_apart_stay_whole(given_words):
    assert words(" ".join(given_words)) == given_words
