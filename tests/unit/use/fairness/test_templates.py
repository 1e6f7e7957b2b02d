"""Sentences with a place for a name."""

from __future__ import annotations

from collections import Counter

import pytest

from peftlab.errors import DataError
from peftlab.use.fairness.templates.reading import PERSONS, SENTIMENT, from_sentences, read_templates


def test_there_are_enough_of_the_packages_own():
    persons, sentiment = read_templates(PERSONS), read_templates(SENTIMENT)
    assert min(len(persons), len(sentiment)) >= 50
    assert len({one.text for one in (*persons, *sentiment)}) == len(persons) + len(sentiment)
    assert set(Counter(one.label for one in sentiment).values()) == {20}
    assert {one.label for one in persons} == {None}
    gendered = {"he", "she", "his", "her", "him", "man", "woman"}
    assert not any(gendered & {word.lower() for word in one.words("X")} for one in (*persons, *sentiment))


def test_a_name_stands_in_its_place(tmp_path):
    (tmp_path / "t.txt").write_text("# c\n\npos | I like {name}'s car.\n{name} left.\n")
    first, second = read_templates(tmp_path / "t.txt")
    assert first.words("Ada") == ["I", "like", "Ada", "'s", "car", "."]
    assert (first.about("Ada"), first.label) == ("I like Ada's car.", "pos")
    assert (second.about("Ada"), second.label) == ("Ada left.", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("He left.\n{name} left.\n", ":1: .* 0 times"),
        ("{name} saw {name}.\n", ":1: .* 2 times"),
        ("{name} left.", "1 templates"),
    ],
)
def test_what_is_no_template_is_refused(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_templates(tmp_path / "t.txt")


def test_sentences_lose_their_first_person():
    rows = [
        {"input": ["Marie", "Curie", "met", "Ada"], "gold": ["B-PER", "I-PER", "O", "B-PER"]},
        {"input": ["in", "Rome"], "gold": ["O", "B-LOC"]},
        {"input": ["Rome", "saw", "Noether"], "gold": ["B-LOC", "O", "B-PER"]},
    ]
    first, second = from_sentences(rows, "PER", 50, seed=0)
    assert first.words("X") == ["X", "met", "Ada"]
    assert second.about("X") == "Rome saw X"
    assert len(from_sentences(rows * 9, "PER", 5, seed=0)) == 5
    with pytest.raises(DataError, match="0 test sentences have an entity of the type ORG"):
        from_sentences(rows, "ORG", 50, seed=0)
