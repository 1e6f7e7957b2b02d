"""Plain text to words."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftlab.tasks.inputs.splitting import _starts, words_of


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


def normalised(form: str, text: str) -> list[str]:
    """The words of `text` in a normal form, composed again."""
    return [unicodedata.normalize("NFC", word) for word in words(unicodedata.normalize(form, text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "カ\u3099ホ\u3099ン Oslo",
            "カ\u3099|ホ\u3099|ン|Oslo",
        ),  # voicing marks apart, as file names of macOS have them
        ("か\u3099き\u309aく", "か\u3099|き\u309a|く"),
        ("葛\U000e0100城市 辻\ufe00さん", "葛\U000e0100|城|市|辻\ufe00|さ|ん"),  # which form of a Chinese character
        ("東\u200b京 か\u200dき", "東\u200b|京|か\u200d|き"),
        ("(\u0301) a\u0301b 3\u0301.5", "(\u0301|)|a\u0301b|3\u0301.5"),
        ("≠ =\u0338 <\u0338", "≠|=\u0338|<\u0338"),
        ("\u0301alone \u0301mark", "\u0301alone|\u0301mark"),  # there is nothing before it to stay with
        ("नमस्\u200dते क\u200cख", "नमस्\u200dते|क\u200cख"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0646 \u0628\u0647",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0646|\u0628\u0647",
        ),
        ("👩\u200d💻👍🏽 ok", "👩\u200d💻|👍🏽|ok"),
        (
            "👨\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 ❤\ufe0f\u200d🔥",
            "👨\u200d👩\u200d👧\u200d👦|🏳\ufe0f\u200d🌈|❤\ufe0f\u200d🔥",
        ),
        ("👁\ufe0f\u200d🗨\ufe0f 🙂\u200d↔\ufe0f ☺\ufe0fTampa", "👁\ufe0f\u200d🗨\ufe0f|🙂\u200d↔\ufe0f|☺\ufe0f|Tampa"),
        ("🇩🇪🇫🇷🇳 x", "🇩🇪|🇫🇷|🇳|x"),
        ("1\ufe0f\u20e32\ufe0f\u20e3nd #\ufe0f\u20e3", "1\ufe0f\u20e3|2\ufe0f\u20e3|nd|#\ufe0f\u20e3"),
        ("🏴\U000e0067\U000e0062\U000e007f!", "🏴\U000e0067\U000e0062\U000e007f|!"),
        ("🎉🎉", "🎉|🎉"),
        ("E\u0301. Dupont, M. E\u0301.U. cafe\u0301's", "E\u0301.|Dupont|,|M.|E\u0301.U.|cafe\u0301|'s"),
        ("\u1100\u1161.\u1102\u1161. \u1112\u1161\u11ab", "\u1100\u1161.\u1102\u1161.|\u1112\u1161\u11ab"),
    ],
)
def test_marks_stay_with_what_is_before_them(text, expected):
    assert words(text) == expected.split("|")
    assert normalised("NFC", text) == normalised("NFD", text)


@given(st.text(alphabet="aÉéüがパ각힣Åñ.,'\u2019s -1ज़か\u0301\u3099\u200d\ufe0f👩🇩≠") | st.text())
def test_composed_and_decomposed_text_have_the_same_words(text):
    assert normalised("NFC", text) == normalised("NFD", text)


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF)) | st.text(alphabet="東京かター aB.,'-\u2019"))
def test_text_without_marks_is_split_by_its_characters_alone(text):
    """Each is one, so that nothing of the rule for marks has a part in it."""
    assert _starts(text.replace("\xad", "")) == list(range(len(text.replace("\xad", ""))))


def test_a_long_run_of_marks_takes_no_longer_than_it_is_long():
    assert words_of("a" + "\u0301" * 50_000 + " b") == [(0, 50_001), (50_002, 50_003)]


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
