from __future__ import annotations

import json

import numpy as np
import pytest

from peftlab.data import data_card as module
from peftlab.data.data_card import Tokenised, data_card, lengths_of
from peftlab.data.reading import DataFacts
from peftlab.tasks.classification import Classification
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.limits import Limits
from peftlab.tasks.task import Selection

ROWS = {
    "train": [("Paris is in France", "a"), ("Paris is in France", "a"), ("Rome", "a"), ("Rome", "b"), (" ", "a")],
    "validation": [("PARIS is  in France", "a"), ("Oslo moved", "c")],
    "test": [("Warsaw is a city with a very long name", "b")],
}


@pytest.fixture
def card_of(processor):
    def make(rows=ROWS, max_tokens=None):
        splits = {
            split: [Text(f"{split}:{n}", text, label) for n, (text, label) in enumerate(pairs)]
            for split, pairs in rows.items()
        }
        task = Classification(name="classification", selection=Selection(metric="accuracy"))
        task.learn_labels(splits, ["a", "b", "c"])
        facts = DataFacts(
            origin="files:x",
            files=dict.fromkeys(splits, "x.csv"),
            sha256={"train": "0"},
            dropped={s: {} for s in splits},
        )
        tokenised = None
        if max_tokens is not None:
            tokenised = {
                split: Tokenised(
                    task.encode(members, processor, Limits(max_tokens, "truncate")),
                    task.encode(members, processor, Limits(512, "truncate")).lengths,
                )
                for split, members in splits.items()
            }
        return data_card("x", splits, facts, task, max_tokens or 128, tokenised)

    return make


def test_copies_classes_and_lengths_are_counted(card_of):
    card = card_of()
    train = card.splits["train"]
    assert (train.rows, train.duplicates, train.conflicts, train.near_duplicates, train.empty) == (5, 1, 2, 0, 1)
    assert train.classes == {"a": 4, "b": 1}
    assert train.unread is None
    assert (train.lengths.unit, train.lengths.most, train.lengths.median) == ("words", 4, 1)
    assert [(one.of, one.within, one.examples) for one in card.overlap] == [
        ("validation", "train", 1),
        ("test", "train", 0),
        ("test", "validation", 0),
    ]
    assert card.leaks == 2
    assert [one.id for one in card.examples] == [f"train:{n}" for n in range(5)]
    json.dumps(card.document())


def test_everything_worth_knowing_is_a_warning(card_of):
    assert list(card_of(max_tokens=12).warnings) == [
        "train: 2 of 2 classes occur fewer than 10 times: a (4), b (1)",
        "validation: no training example has c",
        "validation: no example has b",
        "test: no example has a",
        "train: 1 text without a word",
        "train: 2 examples whose text has other gold elsewhere in the split",
        "train: 1 repetition of earlier examples; data.duplicates=drop",
        "validation: of 2 examples, an accuracy of 0.8 is known to ± 0.55 only",
        "test: 1 example (100.0%) not read whole at data.max_tokens=12",
        "test: of 1 example, an accuracy of 0.8 is known to ± 0.78 only",
        "validation: 1 text of the train split too",
        "train: 2 examples the same as one of validation or test, or nearly; 'data.clean={leaks: drop}'",
    ]


def test_data_without_a_fault_has_no_warning(card_of):
    def rows(split: str) -> list[tuple[str, str]]:
        return [(f"{split} {number} alone", "abc"[number % 3]) for number in range(300)]

    assert card_of({split: rows(split) for split in ROWS}).warnings == ()


def test_tokens_are_counted_before_they_are_cut(card_of):
    lengths = card_of(max_tokens=8).splits["test"].lengths
    assert lengths.unit == "tokens"
    assert lengths.most > 8


def test_much_data_is_not_searched_for_copies(card_of, monkeypatch):
    monkeypatch.setattr(module, "MOST_COMPARED", 7)
    card = card_of()
    assert card.leaks is None
    assert card.splits["train"].duplicates is None
    assert card.warnings[-1] == "among more than 7 examples, duplicates and near duplicates are not looked for"


@pytest.mark.parametrize("most", [1, 9, 10, 37, 128, 5000])
def test_a_histogram_has_round_bins_and_counts_everything_once(most):
    numbers = np.random.default_rng(0).integers(0, most + 1, 1000)
    numbers[0] = most * 10
    lengths = lengths_of(numbers, "words")
    assert sum(one.examples for one in lengths.histogram) == 1000
    assert len(lengths.histogram) <= 11
    assert [one.least for one in lengths.histogram[1:]] == [one.most + 1 for one in lengths.histogram[:-1]]
    assert lengths.histogram[-1].most is None
    assert lengths_of(numbers[:0], "words") is None
