"""PubTator and BRAT: entities by the places of characters, and all that can be wrong with these."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from peftlab.data.brat import Brat
from peftlab.data.form import has_groups
from peftlab.data.pubtator import PubTator
from peftlab.data.standoff import Document, Mention, Offsets, Standoff, _in_characters, _units_before
from peftlab.errors import DataError
from peftlab.scores.bio import entities

ARTICLES = """\
1|t|Naïve T cells in asthma
1|a|Severe asthma (SA) is rare. EGFR-mutant tumours are not.
1\t17\t23\tasthma\tDisease\tD001249
1\t24\t37\tSevere asthma\tDisease\tD001249
1\t39\t41\tSA\tDisease\tD001249
1\t52\t56\tEGFR\tGene\t1956
1\tCID\tD000001\tD001249

2|t|A title
2|a|
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def pubtator(path: Path, text: str = ARTICLES, **options):
    return PubTator(**options).read({"train": write(path / "train.txt", text)})["train"]


def brat(path: Path, text: str, annotations: str, **options):
    write(path / "train/a.txt", text)
    write(path / "train/a.ann", annotations)
    return Brat(**options).read({"train": path / "train"})["train"]


def named(sentence):
    return [(one.type, " ".join(sentence.words[one.start : one.end])) for one in entities(sentence.tags)]


def test_articles_by_hand(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "peftlab"):
        read = pubtator(tmp_path)
    assert [sentence.text for sentence in read] == [
        "Naïve T cells in asthma",  # a title has no period
        "Severe asthma (SA) is rare.",
        "EGFR-mutant tumours are not.",
        "A title",
    ]
    assert named(read[0]) == [("Disease", "asthma")]
    assert named(read[1]) == [("Disease", "Severe asthma"), ("Disease", "SA")]
    assert named(read[2]) == [("Gene", "EGFR-mutant")]  # a word has one tag
    assert [sentence.group for sentence in read] == ["1", "1", "1", "2"]
    assert [sentence.lines[0] for sentence in read] == [1, 2, 2, 9]
    assert read.counts == {"entities": 4, "relations": 1, "split_words": 1, "documents": 2}
    assert "1 split words" in caplog.text
    assert all(
        sentence.text[start:end] == word
        for sentence in read
        for word, (start, end) in zip(sentence.words, sentence.spans, strict=True)
    )
    assert has_groups(PubTator())


def test_an_example_may_be_a_document(tmp_path):
    assert [sentence.group for sentence in pubtator(tmp_path, sentences=False)] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "offsets", "kind"),
    [
        ("Naïve asthma", (7, 13), "bytes"),
        ("\U0001f600 asthma", (3, 9), "utf16"),
        ("One\r\nasthma", (4, 10), "no_returns"),
    ],
)
def test_other_offsets_are_named_and_can_be_read(tmp_path, text, offsets, kind):
    line = f"T1\tDisease {offsets[0]} {offsets[1]}\tasthma\n"
    with pytest.raises(DataError, match=rf"a.ann:1: at \d+ to \d+ there is .* set data.format.offsets={kind}"):
        brat(tmp_path, text, line)
    read = brat(tmp_path, text, line, offsets=kind)
    assert [named(sentence) for sentence in read][-1] == [("Disease", "asthma")]


def test_carriage_returns_count_as_characters(tmp_path):
    assert named(brat(tmp_path, "One\r\nasthma", "T1\tDisease 5 11\tasthma\n")[1]) == [("Disease", "asthma")]


def test_white_space_around_an_entity_loses_none(tmp_path):
    for line in ("T1\tDisease 3 11\tasthma\n", "T1\tDisease 5 12\tasthma \n"):
        read = brat(tmp_path, "One\n\nasthma is here", line)
        assert [named(sentence) for sentence in read] == [[], [("Disease", "asthma")]]
        assert read.counts == {"entities": 1, "documents": 1}


OVERLAPPING = "T1\tDisease 0 6\tasthma\nT2\tDisease 0 13\tasthma attack\nT3\tDisease 0 6;14 18\tasthma here\nR1\tx\n"


def test_overlapping_entities(tmp_path):
    with pytest.raises(DataError, match=r"a.ann:3: 'asthma here' consists of several pieces.*overlaps=longest"):
        brat(tmp_path, "asthma attack here", OVERLAPPING)
    with pytest.raises(DataError, match=r"a.ann:1: 'asthma' overlaps another entity"):
        brat(tmp_path, "asthma attack here", "\n".join(OVERLAPPING.splitlines()[:2]))
    read = brat(tmp_path, "asthma attack here", OVERLAPPING, overlaps="longest")
    assert named(read[0]) == [("Disease", "asthma attack")]
    assert read.counts == {
        "entities": 3, "overlapping": 1, "discontinuous": 1, "other_annotations": 1, "documents": 1
    }  # fmt: skip


def test_entities_that_no_sentence_holds_are_counted(tmp_path):
    read = brat(tmp_path, "asthma\nattack", "T1\tDisease 0 13\tasthma attack\n")
    assert [named(sentence) for sentence in read] == [[], []]
    assert read.counts["across_sentences"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1|t|a\n2|a|b\n", r"train.txt:2: article 2 begins within 1"),
        ("1|t|a\n1|a|b\n1\t0\t1\tx\tD\n", r"train.txt:3: at 0 to 1 there is 'a', not 'x'.*Mend the offsets"),
        ("1|t|a\n1|a|b\n1\t0\t9\tx\tD\n", r"train.txt:3: at 0 to 9 there is beyond the end"),
        ("1|t|a\n1|a|b\n1\t0\t1\ta\n", "train.txt:3: .* this line has no type"),
        ("1|t|a\n1|a|b\n1\t0\t1\ta\ta b\n", "train.txt:3: the type 'a b'"),
        ("1|t|a\n1|a|b\nword\n", r"train.txt:3: expected ID\|t\|TITLE"),
        ("1|t|a\n1|a|b\n\n1|t|a\n1|a|b\n", "2 documents are called '1'"),
        ("\n\n", "empty split 'train'"),
    ],
)
def test_malformed_articles(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        pubtator(tmp_path, text)


def test_malformed_folders(tmp_path):
    with pytest.raises(DataError, match=r"a.ann:1: expected T1, then TYPE START END"):
        brat(tmp_path, "asthma", "T1 Disease 0 6 asthma\n")
    (tmp_path / "train/a.ann").unlink()
    with pytest.raises(DataError, match=r"a.txt: its entities, a.ann, are not beside it"):
        Brat().read({"train": tmp_path / "train"})
    with pytest.raises(DataError, match="is not a folder"):
        Brat().read({"train": tmp_path / "train/a.txt"})


@pytest.mark.parametrize("kind", get_args(Offsets))
def test_offsets_of_any_kind_are_places_of_characters_as_by_definition(kind):
    random = np.random.default_rng(0)
    for _ in range(20):
        text = "".join(random.choice(list("ab\r\n\u00e9\u4e00\U0001f600 "), 12))
        sizes = {
            "characters": [1 for _ in text],
            "bytes": [len(character.encode()) for character in text],
            "utf16": [len(character.encode("utf-16-le")) // 2 for character in text],
            "no_returns": [int(character != "\r") for character in text],
        }[kind]
        before = [sum(sizes[:place]) for place in range(len(text) + 1)]
        last = {units: place for place, units in enumerate(before)}  # behind carriage returns that do not count
        for start, end in itertools.product(range(-1, before[-1] + 2), repeat=2):
            expected = (last[start], last[end]) if start in last and end in last and start < end else None
            assert _in_characters(text, (start, end), kind) == expected


def test_a_long_document_is_counted_once_not_for_each_of_its_entities():
    _units_before.cache_clear()
    text = "\u00e9 fever. " * 50
    mentions = [Mention("X", ((10 * n + 3, 10 * n + 8),), "fever", f"f:{n}") for n in range(50)]
    (sentence,) = Standoff(offsets="bytes", sentences=False).read(
        "train", [Document("d", text, mentions, "f")], Counter()
    )
    assert sentence.tags.count("B-X") == 50
    assert _units_before.cache_info().misses == 1
