from __future__ import annotations

import itertools
import random

from peftlab.data.cleaning import copies, unread
from peftlab.data.cleaning.copies import Entry, label_of
from peftlab.data.duplicates import near_duplicates

ENTRIES = [
    Entry("train", "train:0", "the match was played on Saturday in Rome", "sports"),
    Entry("train", "train:1", "the match was played on Saturday in Rome", "sports"),
    Entry("train", "train:2", "The match was played on Saturday in Rome !", "sports"),
    Entry("train", "train:3", "shares fell in London", "business"),
    Entry("train", "train:4", "shares fell in London", "politics"),
    Entry("train", "train:5", "nothing like it", "tech"),
    Entry("test", "test:0", "SHARES fell in London", "tech"),
    Entry("test", "test:1", "nothing like it at all, not in any way", "tech"),
]


def test_every_kind_by_hand():
    found = copies.copies(ENTRIES)
    assert found.duplicates == {1: 0}
    assert found.conflicts == {3: 4, 4: 3}
    assert found.near_duplicates == {2: 0}
    assert found.leaks == {3: 6, 4: 6}


def test_gold_of_other_splits_decides_nothing():
    other = [entry._replace(gold="another") if entry.split == "test" else entry for entry in ENTRIES]
    assert copies.copies(other) == copies.copies(ENTRIES)


def test_the_findings():
    listed = copies.findings(ENTRIES)
    assert [(one.reason, one.id, one.note) for one in listed] == [
        ("conflict", "train:3", "the label is another in train:4"),
        ("conflict", "train:4", "the label is another in train:3"),
        ("duplicate", "train:1", "the same as train:0"),
        ("near duplicate", "train:2", "nearly train:0"),
        ("leak", "train:3", "the same as test:0, or nearly"),
        ("leak", "train:4", "the same as test:0, or nearly"),
    ]
    assert (listed[0].gold, listed[0].suggested) == ("business", "politics")


def test_of_words_in_conflict_only_those_that_differ_are_shown():
    entries = [Entry("train", f"train:{n}", "in\x1fRome", tags) for n, tags in enumerate([["O", "LOC"], ["O", "ORG"]])]
    first, second = copies.findings(entries)
    assert (first.text, first.gold, first.suggested) == ("in Rome", "Rome:LOC", "Rome:ORG")
    assert second.suggested == "Rome:LOC"


def test_they_agree_with_every_pair():
    for seed in range(5):
        draw = random.Random(seed)
        entries = [
            Entry(draw.choice(["train", "test"]), str(n), draw.choice("abcdefgh") * 3, draw.choice("xy"))
            for n in range(40)
        ]
        found = copies.copies(entries)
        groups = near_duplicates([entry.text for entry in entries])
        conflicts, leaks = set(), set()
        for (n, a), (m, b) in itertools.permutations(enumerate(entries), 2):
            conflicts |= {n} if (a.split, a.text) == (b.split, b.text) and a.gold != b.gold else set()
            leaks |= {n} if (a.split, b.split) == ("train", "test") and groups[n] == groups[m] else set()
        assert set(found.conflicts) == conflicts
        assert set(found.leaks) == leaks
        assert not {*found.duplicates} & conflicts
        left = {(e.split, e.text) for n, e in enumerate(entries) if n not in {*found.duplicates, *conflicts}}
        assert len(left) == 40 - len(found.duplicates) - len(conflicts)


def test_what_occurs_very_often_leaks_too():
    texts = [("train", "Thank you!")] * 60 + [("test", "thank you"), ("train", "not that")]
    entries = [Entry(split, str(n), text, "a") for n, (split, text) in enumerate(texts)]
    assert {*copies.copies(entries).leaks} == {*range(60)}


def test_texts_without_a_word_are_copies_only_of_equal_ones():
    texts = [("train", ":)"), ("train", ":("), ("train", "\U0001f602"), ("train", ":)"), ("test", ":("), ("test", "!")]
    entries = [Entry(split, str(n), text, text) for n, (split, text) in enumerate(texts)]
    listed = copies.copies(entries)
    assert (listed.duplicates, listed.near_duplicates, listed.leaks) == ({3: 0}, {}, {1: 4})


def test_any_gold_is_shown():
    assert [label_of(gold) for gold in ("a", ["B", "O"], 1.5, None, {"a": 1})] == ["a", "B O", "1.5", "", '{"a": 1}']


def test_empty_and_cut_texts():
    entries = [Entry("train", str(n), text, "a") for n, text in enumerate(["fine", " ", "long", "odd"])]
    lost = [{}, {}, {"truncated": True, "lost_tokens": 3}, {"emptied_words": 1}]
    assert [(one.id, one.reason, one.note) for one in unread.findings(entries, lost)] == [
        ("1", "empty", ""),
        ("2", "unread", "truncated, 3 lost tokens"),
        ("3", "unread", "1 emptied words"),
    ]


class Compared(str):
    """Gold that counts how often it is compared."""

    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        Compared.times += 1
        return str.__ne__(self, other)


def test_a_text_that_is_there_very_often_is_not_compared_with_each_of_its_kind():
    entries = [Entry("train", str(n), "thanks", Compared("a" if n < 150 else "b")) for n in range(300)]
    assert copies.copies(entries).conflicts == {n: 150 if n < 150 else 0 for n in range(300)}
    assert Compared.times < 10 * len(entries)
