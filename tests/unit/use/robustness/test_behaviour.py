"""Behaviour tests against a model that answers by a rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.errors import DataError, UserError
from peftlab.use.robustness.behaviour import behaviours, read_suite, sentiments

LABELS = ["neg", "neu", "pos"]


class ByWords:
    """A classifier of the words good, bad and very."""

    def answers(self, texts):
        for text in texts:
            words = text.split()
            sure = 0.2 * (1 + words.count("very"))
            scores = {"pos": sure * ("good" in words), "neg": sure * ("bad" in words)}
            probabilities = {"neg": scores["neg"], "neu": 0.1, "pos": scores["pos"]}
            yield {"predicted": max(probabilities, key=probabilities.get), "probabilities": probabilities}


def suite(*cases: dict, roles=LABELS, labels=LABELS):
    Path("suite.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return read_suite("suite.jsonl", labels, roles)


def outcome(*cases: dict, roles=LABELS):
    (one,) = behaviours(ByWords(), suite(*({"test": "t", **case} for case in cases), roles=roles), roles)
    return one.cases, one.failed, one.left_out


def test_minimum_functionality():
    cases = [("good", 2), ("bad", 2), ("day", "neu"), ("good", ["neg", 1]), ("good", [1, 2])]
    assert outcome(*({"type": "MFT", "texts": text, "label": label} for text, label in cases)) == (5, 2, 0)


def test_a_case_without_a_label_of_the_run_or_without_texts_is_left_out():
    cases = [{"type": "MFT", "texts": "day", "label": 1}, {"type": "MFT", "texts": None, "label": 2}]
    assert outcome(*cases, roles=["neg", None, "pos"]) == (0, 0, 2)
    up = {"type": "DIR", "texts": ["a", "b"], "expect": "up"}
    assert outcome(up, roles=[None, None, "pos"]) == (0, 0, 1)


def test_not_negative():
    negated = {"test": "negations: not negative", "type": "MFT", "texts": "good", "label": None}
    (one,) = behaviours(ByWords(), suite(negated, negated | {"texts": "bad"}), LABELS)
    assert (one.cases, one.failed, one.failures) == (2, 1, [["bad"]])


def test_invariance_fails_as_a_whole_and_shows_what_failed():
    case = {"test": "t", "type": "INV", "texts": ["good day", "good time", "bad time", "time"]}
    (one,) = behaviours(ByWords(), suite(case, case | {"texts": ["day", "time"]}), LABELS)
    assert (one.cases, one.failed, one.failure_rate) == (2, 1, 0.5)
    assert one.failures == [["good day", "bad time", "time"]]


@pytest.mark.parametrize(
    ("expect", "changed", "failed"),
    [
        ("up", "very good", 0),
        ("up", "bad", 1),
        ("down", "very good", 1),
        ("down", "good", 0),
        ("surer", "very good", 0),
        ("surer", "time", 1),
        ("less sure", "very good", 1),
        ("less sure", "time", 0),
    ],
)
def test_directions(expect, changed, failed):
    assert outcome({"type": "DIR", "texts": ["good", changed], "expect": expect}) == (1, failed, 0)


def test_a_neutral_text_has_no_label_to_be_surer_of():
    assert outcome({"type": "DIR", "texts": ["day", "very day"], "expect": "surer"}) == (0, 0, 1)
    assert suite({"test": "intensifiers", "type": "DIR", "texts": ["a", "b"]})[0].expect == "surer"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"type": "XYZ"}, "expected `test`, a name, and `type`, one of MFT, INV, DIR"),
        ({"type": "MFT"}, "expected `texts`"),
        (
            {"type": "MFT", "texts": "a", "label": 3},
            r"needs `label`: labels of the run \(neg, neu, pos\), or 0 for neg",
        ),
        ({"type": "INV", "texts": "a"}, "at least two `texts`"),
        ({"type": "DIR", "texts": ["a", "b"]}, "needs `expect`, one of up, down, surer, less sure"),
    ],
)
def test_what_is_no_case_is_an_error_that_names_the_line(case, message):
    good = {"test": "t", "type": "MFT", "texts": "a", "label": 0}
    with pytest.raises(DataError, match=rf"^suite.jsonl:2: .*{message}"):
        suite(good, {"test": "t", **case})
    with pytest.raises(DataError, match="holds no case"):
        suite()


def test_labels_for_sentiments():
    assert sentiments(["Positive", "negative", "neutral"]) == ["negative", "neutral", "Positive"]
    assert sentiments(["sport", "pos"]) == [None, None, "pos"]
    assert sentiments(["0", "1"], ["0", "-", "1"]) == ["0", None, "1"]
    for names, message in {("0", "1"): "name the run's labels", ("0", "2", "1"): "'2' is no label"}.items():
        with pytest.raises(UserError, match=message):
            sentiments(["0", "1"], names)
