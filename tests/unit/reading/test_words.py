"""Words of every script."""

from __future__ import annotations

import re

import pytest

from peftlab.reading.words import WORD, WORD_OF_TWO


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A well-known café, no. 7_b", ["A", "well", "known", "café", "no", "7_b"]),
        ("2023年很好", ["2023", "年", "很", "好"]),
        ("買うiPhone。", ["買", "う", "iPhone"]),
        ("한국어 문장", ["한국어", "문장"]),  # Korean writes spaces
        ("กา", ["ก", "า"]),
    ],
)
def test_words(text, words):
    assert re.findall(WORD, text) == words
    assert re.findall(WORD_OF_TWO, text) == [word for word in words if len(word) > 1 or word > "\u0e00"]
