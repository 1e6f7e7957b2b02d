"""From texts and functions to rows with labels and weights."""

from __future__ import annotations

import json
import math

import pytest

from peftlab.errors import DataError, UserError
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import Selection
from peftlab.weak_supervision import label_model, labelling_function
from peftlab.weak_supervision.functions import Unlabelled
from peftlab.weak_supervision.labelling import label
from peftlab.weak_supervision.texts import Source


def keyword(name, word, vote):
    return labelling_function(name)(lambda text: vote if word in text.text else None)


FUNCTIONS = [keyword("love", "love", "pos"), keyword("nice", "nice", "pos"), keyword("bad", "bad", "neg")]
WORDS = ["love", "nice", "bad", "love nice", "love bad", "other"]
TEXTS = [Unlabelled(f"{text} {n}", place=f"a.csv:{n}") for n, text in enumerate(WORDS * 20)]
DEV = [
    Unlabelled(text, place="dev", gold=gold) for text, gold in [("love", "pos"), ("bad", "neg"), ("nice bad", "neg")]
]


def test_majority():
    labelled = label(FUNCTIONS, TEXTS, model="majority")
    assert [row["label"] for row in labelled.rows[:4]] == ["pos", "pos", "neg", "pos"]
    assert {row["weight"] for row in labelled.rows} == {1}
    assert labelled.unlabelled[:2] == [{"text": "love bad 4"}, {"text": "other 5"}]
    facts = labelled.facts
    assert [facts[key] for key in ("examples", "labelled", "silent", "ties")] == [120, 80, 20, 20]


def test_probabilities_are_weights():
    labelled = label(FUNCTIONS, TEXTS)
    first, both = labelled.rows[0], labelled.rows[3]
    assert first["votes"] == {"love": "pos"}
    assert (
        first["weight"] == first["probabilities"]["pos"] == pytest.approx(1 - first["probabilities"]["neg"], abs=2e-6)
    )
    assert 0.5 < first["weight"] < both["weight"] < 1
    assert len(labelled.rows) == 100  # a conflict has a winner
    assert label(FUNCTIONS, TEXTS) == labelled


def test_a_model_that_has_not_settled_is_told(monkeypatch):
    assert not any("settled" in doubt for doubt in label(FUNCTIONS, TEXTS).facts["doubts"])
    monkeypatch.setattr(label_model, "_MOST_ROUNDS", 2)
    assert "the model of the votes has not settled" in label(FUNCTIONS, TEXTS).facts["doubts"][-1]


def test_labelled_examples_judge_and_weigh():
    labelled = label(FUNCTIONS, TEXTS, model="weighted", dev=DEV)
    assert [(one["dev"]["right"], one["dev"]["judged"]) for one in labelled.facts["functions"]] == [
        (1, 1),
        (0, 1),
        (2, 2),
    ]
    assert set(labelled.facts["dev"]["models"]) == {"majority", "weighted"}
    assert next(row["label"] for row in labelled.rows if row["text"] == "love bad 4") == "neg"


def test_weights_are_judged_by_examples_that_they_have_not_learnt_from():
    """Two functions contradict each other, and each of two examples speaks for another one."""
    functions = [keyword("x", "x", "pos"), keyword("y", "y", "neg"), keyword("wrong", "z", "pos")]
    dev = [Unlabelled("xyz", place="dev", gold=gold) for gold in ("pos", "neg")]
    dev += [Unlabelled("z", place="dev", gold="neg")] * 30
    measured = label(functions, dev, model="weighted", dev=dev).facts["dev"]["models"]["weighted"]
    assert (measured["right"], measured["judged"]) == (0, 2)


def test_silence_on_labelled_examples_is_reported_and_on_the_texts_refused():
    quiet = [Unlabelled("other", place="dev", gold="pos")]
    facts = label(FUNCTIONS, TEXTS, model="weighted", dev=quiet).facts
    assert facts["dev"]["models"]["weighted"]["judged"] == 0
    with pytest.raises(DataError, match="all functions abstain on all texts"):
        label(FUNCTIONS, quiet)


def test_what_has_no_effect_or_is_missing():
    with pytest.raises(UserError, match="weighted learns the accuracy of each function"):
        label(FUNCTIONS, TEXTS, model="weighted")
    with pytest.raises(UserError, match="--balance is for --model generative"):
        label(FUNCTIONS, TEXTS, model="majority", balance={"pos": 0.5, "neg": 0.5})
    with pytest.raises(DataError, match="all votes are for 'pos', so that no text could have another label"):
        label(FUNCTIONS[:2], TEXTS)
    assert label(FUNCTIONS[:2], TEXTS, labels=["pos", "neg"]).facts["doubts"][0] == "no function votes for neg"
    with pytest.raises(UserError, match="expected a share above 0 for each of neg, pos"):
        label(FUNCTIONS, TEXTS, balance={"pos": 0.5})
    with pytest.raises(UserError, match="expected a share above 0 for each of neg, pos"):
        label(FUNCTIONS, TEXTS, balance={"pos": math.nan, "neg": 0.5})
    with pytest.raises(DataError, match=r"dev: 'neutral' is none of the labels neg, pos\. Name all of them: --labels"):
        label(FUNCTIONS, TEXTS, dev=[Unlabelled("love", place="dev", gold="neutral")])


def entity(name, *words, kind):
    def vote(text):
        return [(n, n + 1, kind) for n, word in enumerate(text.words) if word in words] or None

    return labelling_function(name)(vote)


@pytest.mark.parametrize("model", ["majority", "generative"])
def test_sentences(model):
    long = labelling_function("long")(lambda text: [(0, 2, "PER")] if text.words[0] == "Marie" else None)
    functions = [entity("places", "Rome", "Paris", kind="LOC"), entity("names", "Anna", kind="PER"), long]
    words = [("Marie", "Curie", "saw", "Paris"), ("It", "rains"), ("Anna", "left", "Rome")]
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-PER", "O", "B-LOC"]]
    texts = [Unlabelled(" ".join(each), words=each) for each in words]
    dev = [Unlabelled(each.text, words=each.words, gold=tags) for each, tags in zip(texts, gold, strict=True)]
    labelled = label(functions, texts, words=True, model=model, dev=dev)
    assert [row["ner_tags"] for row in labelled.rows] == [gold[0], gold[2]]
    assert labelled.unlabelled == [{"words": ["It", "rains"]}]  # O would be a label
    assert labelled.facts["dev"]["models"][model] == {"precision": 1, "recall": 1, "f1": 1}
    assert [one["labels"] for one in labelled.facts["functions"]] == [["LOC"], ["PER"], ["PER"]]
    assert all((row["weight"] == 1) == (model == "majority") for row in labelled.rows)


class TestSource:
    def test_rows_lines_and_labels(self, tmp_path):
        (tmp_path / "a.csv").write_text("id,message,label\n1,hello,x\n")
        (tmp_path / "a.txt").write_text("one\n\ntwo\n")
        (tmp_path / "a.jsonl").write_text(json.dumps({"a": "x\ud800", "b": "y", "label": 1}) + "\n")
        (text,) = Source(text="message").read(tmp_path / "a.csv")
        assert (text.text, text.gold, text.place) == ("hello", None, f"{tmp_path / 'a.csv'}:2")
        assert [each.text for each in Source().read(tmp_path / "a.txt")] == ["one", "two"]
        (pair,) = Source(text="a", pair="b").read(tmp_path / "a.jsonl", gold=True)
        assert (pair.text, pair.pair, pair.gold) == ("x\ufffd", "y", "1")
        with pytest.raises(DataError, match=r"there is no column 'text'\. Columns: id, message, label\. Set --text"):
            Source().read(tmp_path / "a.csv")
        with pytest.raises(DataError, match="what kind of file is it"):
            Source().read(tmp_path / "a.doc")

    def test_sentences_that_have_got_no_label_are_read_again(self, tmp_path):
        """By methods that learn from unlabelled ones, and by more functions."""
        texts = [Unlabelled("It rains", words=("It", "rains")), Unlabelled("In Rome", words=("In", "Rome"))]
        (row,) = label([entity("places", "Rome", kind="LOC")], texts, words=True).unlabelled
        assert Ner(name="ner", selection=Selection(metric="entity_f1")).from_input(row, "0").words == ["It", "rains"]
        (tmp_path / "rest.jsonl").write_text(json.dumps(row) + "\n")
        assert Source(words=True).read(tmp_path / "rest.jsonl")[0].words == ("It", "rains")

    def test_sentences(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"tokens": ["In", "Rome"], "ner_tags": ["O", "B-LOC"]}\n')
        (tmp_path / "b.jsonl").write_text('{"text": "In Rome, today."}\n')
        (tmp_path / "c.jsonl").write_text('{"tokens": ["In", "Rome"], "ner_tags": ["O"]}\n')
        (sentence,) = Source(words=True).read(tmp_path / "a.jsonl", gold=True)
        assert (sentence.text, sentence.words, sentence.gold) == ("In Rome", ("In", "Rome"), ["O", "B-LOC"])
        (split,) = Source(words=True).read(tmp_path / "b.jsonl")
        assert split.words == ("In", "Rome", ",", "today", ".")
        with pytest.raises(DataError, match="expected a BIO tag for each of 2 words, not 1"):
            Source(words=True).read(tmp_path / "c.jsonl", gold=True)
        (tmp_path / "d.conll").write_text("In O\nRome B-LOC\n\n")
        (column,) = Source(words=True).read(tmp_path / "d.conll")
        assert column.words == ("In", "Rome")
