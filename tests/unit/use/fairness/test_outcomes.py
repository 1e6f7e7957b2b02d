"""What can be measured of the answers of each task."""

from __future__ import annotations

import pytest

from peftlab.errors import UserError
from peftlab.scores.choice_scores import ChoiceScores
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.clicks import ClickScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.label_sets import LabelSets
from peftlab.scores.numbers import NumberScores
from peftlab.scores.squad import SquadScores
from peftlab.scores.written_texts import AnswerPerplexity
from peftlab.use.fairness.outcomes import measures_of, of_spans


def values(measures) -> dict[str, float]:
    """Return each measure of all rows as one group."""
    import numpy as np

    return {one.name: one.overall(np.zeros(len(one.counting()), int)) for one in measures}


def test_labels_of_a_classifier():
    of_all = {"a": 0.7, "b": 0.3}
    answers = [
        {"gold": "a", "predicted": "a", "probability": 0.7, "probabilities": of_all},
        {"gold": "b", "predicted": "a", "probability": 0.7, "probabilities": of_all},
        {"gold": "b", "predicted": "b", "probability": 0.6, "probabilities": {"a": 0.4, "b": 0.6}},
        {"gold": "a", "predicted": "b", "probability": 0.6, "probabilities": {"a": 0.4, "b": 0.6}},
    ]
    measured = values(measures_of(answers, ClassScores(["a", "b"]), "accuracy"))
    assert measured.pop("ece") == pytest.approx(0.15)  # two bins: .7 and .6, half of either right
    assert measured == {
        "accuracy": 0.5,
        "fnr/b": 0.5,
        "fpr/b": 0.5,
        "selection_rate/b": 0.5,
        "f1/b": 0.5,
        "bpsn_auc/b": 0.5,
        "bnsp_auc/b": 0.5,
    }
    assert [*values(measures_of(answers, ClassScores(["a", "b"]), "macro_f1", ["score", "fnr"], ["a"]))] == [
        "macro_f1",
        "fnr/a",
    ]


def test_several_labels_and_none():
    answers = [
        {"gold": ["a", "c"], "predicted": ["a"], "probability": [0.9], "probabilities": {"a": 0.9, "c": 0.2}},
        {"gold": [], "predicted": ["a"], "probability": [0.6], "probabilities": {"a": 0.6, "c": 0.1}},
    ]
    measured = values(measures_of(answers, LabelSets(["a", "c"]), "micro_f1", ["accuracy", "fnr", "fpr", "f1"]))
    assert measured == {
        "accuracy": 0, "fnr/a": 0, "fpr/a": 1, "f1/a": pytest.approx(2 / 3), "fnr/c": 1, "fpr/c": 0, "f1/c": 0,
    }  # fmt: skip


def test_named_entities_by_sentence_and_by_mention():
    answers = [
        {"input": ["Ann", "Lee", "saw", "Rome"], "gold": ["B-PER", "I-PER", "O", "B-LOC"],
         "predicted": ["B-PER", "O", "O", "B-LOC"]},
        {"input": ["in", "Oslo"], "gold": ["O", "B-LOC"], "predicted": ["B-LOC", "B-LOC"]},
    ]  # fmt: skip
    scorer = EntityScores(["LOC", "PER"])
    measured = values(measures_of(answers, scorer, "entity_f1"))
    assert measured == pytest.approx({"fnr": 1 / 3, "f1": 4 / 7, "fnr/LOC": 0, "fnr/PER": 1})
    assert [*values(measures_of(answers, scorer, "entity_f1", ["score"]))] == ["f1"]
    measures, words, places = of_spans(answers, scorer, ["LOC"])
    assert (words, places, values(measures)) == ([["Rome"], ["Oslo"]], [0, 1], {"fnr": 0})
    assert len(of_spans(answers, scorer, None)[1]) == 3


def test_numbers_choices_and_written_answers():
    numbers = [{"gold": 1.0, "predicted": 3.0}, {"gold": 2.0, "predicted": 1.0}]
    assert values(measures_of(numbers, NumberScores(), "mae")) == {"mae": 1.5, "bias": 0.5}
    assert [*values(measures_of(numbers, NumberScores(), "pearson"))] == ["pearson", "mae", "bias"]
    choices = [{"gold": 0, "predicted": 0, "probability": 1.0, "choices": 2}]
    assert values(measures_of(choices, ChoiceScores(), "accuracy")) == {"accuracy": 1, "ece": 0}
    answers = [{"gold": ["x y"], "predicted": "x"}, {"gold": ["z"], "predicted": "z"}]
    measured = values(measures_of(answers, SquadScores(), "f1"))
    assert measured == {"f1": pytest.approx(5 / 6), "accuracy": 0.5}


def test_what_cannot_be_measured():
    numbers = [{"gold": 1.0, "predicted": 3.0}]
    for options, message in (
        ((["fpr"], None), "--metrics fpr: cannot be measured of such answers. Allowed for this run: mae, bias"),
        ((["frp"], None), "--metrics frp: there is no such metric. Did you mean 'fpr'?"),
    ):
        with pytest.raises(UserError, match=message):
            measures_of(numbers, NumberScores(), "mae", *options)
    with pytest.raises(UserError, match="--labels d: there is no such label"):
        measures_of([{"gold": "a", "predicted": "a"}], ClassScores(["a", "b"]), "accuracy", None, ["d"])


def test_what_is_not_read_off_the_predicted_answer_is_wrong_too():
    answers = [
        {"gold": True, "predicted": score >= 0.5, "probability": max(score, 1 - score), "score": score, "user": "u"}
        for score in (0.9, 0.2, 0.3, 0.6)
    ]
    assert values(measures_of(answers, ClickScores(), "log_loss", ["accuracy"])) == {"accuracy": 0.5}


def test_a_perplexity_alone_has_no_accuracy():
    answers = [{"gold": "a", "predicted": None, "probability": None, "tokens": 2, "log_probability": -1.0}]
    assert [*values(measures_of(answers, AnswerPerplexity(), "perplexity"))] == ["perplexity"]
