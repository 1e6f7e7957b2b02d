from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from cleanlab.token_classification.rank import get_label_quality_scores as scores_of_sentences

from peftlab.data.cleaning.judged import judged, label_errors
from peftlab.data.cleaning.label_errors import SCORES, is_error, self_confidence, thresholds, worst
from peftlab.errors import DataError


def drawn(seed: int, units: int = 400, labels: int = 4, noise: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a rather good model, and labels some of which are wrong."""
    random = np.random.default_rng(seed)
    true = random.integers(labels, size=units)
    logits = random.normal(size=(units, labels))
    logits[np.arange(units), true] += 2.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gold = np.where(random.random(units) < noise, random.integers(labels, size=units), true)
    return probabilities, gold


def test_the_thresholds_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    assert thresholds(probabilities, np.array([0, 0, 1])).tolist() == [0.7, 0.8]
    assert thresholds(probabilities, np.array([0, 0, 0]))[1] == np.inf


def test_everything_is_as_cleanlab_has_it():
    for seed in range(5):
        probabilities, gold = drawn(seed)
        theirs = find_label_issues(gold, probabilities, filter_by="confident_learning", n_jobs=1)
        ours = is_error(probabilities, gold)
        assert 10 < ours.sum() < 100
        assert ours.tolist() == theirs.tolist()
        for name, score in SCORES.items():
            adjusts = name.startswith("adjusted_")
            quality = get_label_quality_scores(
                gold, probabilities, method=name.removeprefix("adjusted_"), adjust_pred_probs=adjusts
            )
            np.testing.assert_allclose(score(probabilities, gold), quality, rtol=1e-9, err_msg=name)


def test_sentences_are_as_cleanlab_has_them():
    probabilities, gold = drawn(7, units=60)
    ends = [10, 11, 30, 60]
    example = np.repeat(np.arange(4), np.diff([0, *ends]))
    theirs, _ = scores_of_sentences(
        [part.tolist() for part in np.split(gold, ends[:-1])], np.split(probabilities, ends[:-1])
    )
    ours, unit = worst(self_confidence(probabilities, gold), example, 4)
    np.testing.assert_allclose(ours, theirs)
    assert all(ours[n] == self_confidence(probabilities, gold)[unit[n]] for n in range(4))


def test_a_sentence_without_a_word_is_no_error():
    scores, unit = worst(np.array([0.3, 0.2]), np.array([1, 1]), 3)
    assert (scores.tolist(), unit.tolist()) == ([1, 0.2, 1], [-1, 1, -1])


def test_every_score_is_in_its_range_at_the_ends():
    certain = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for name, score in SCORES.items():
        right, wrong = score(certain, np.array([0, 1, 2])), score(certain, np.array([1, 0, 1]))
        assert right.min() == pytest.approx(1), name
        assert ((wrong >= 0) & (wrong <= 1)).all(), name


TEXTS = [
    {"id": f"test:{n}", "input": f"text {n}", "gold": gold, "probabilities": {"a": p, "b": 1 - p}}
    for n, (gold, p) in enumerate([("a", 0.9), ("a", 0.8), ("b", 0.1), ("b", 0.95), ("a", 0.1), (None, 0.5)])
]


def test_texts_are_ranked():
    first, second = label_errors(TEXTS, ["a", "b"], "test")
    assert (first.id, first.gold, first.suggested, first.reason) == ("test:3", "b", "a", "label error")
    assert (second.id, second.gold, second.suggested, second.text) == ("test:4", "a", "b", "text 4")
    assert (first.score, second.score) == (pytest.approx(0.05), pytest.approx(0.1))


def test_words_are_named():
    sure, unsure = {"O": 0.99, "X": 0.01}, {"O": 0.02, "X": 0.98}
    rows = [
        {"id": "a", "input": ["in", "Rome"], "gold": ["O", "X"], "probabilities": [sure, unsure]},
        {"id": "b", "input": ["in", "Bonn", "\u200b"], "gold": ["O", "O", "O"], "probabilities": [sure, unsure, None]},
    ]
    (finding,) = label_errors(rows, ["O", "X"], "validation")
    assert (finding.id, finding.gold, finding.suggested) == ("b", "Bonn:O", "Bonn:X")
    assert (finding.text, finding.note) == ("in Bonn \u200b", "worst word: Bonn")
    assert judged(rows, ["O", "X"]).place.tolist() == [0, 1, 0, 1]


def test_predictions_without_all_probabilities_are_refused():
    with pytest.raises(DataError, match="test:0: the prediction has not the probabilities of all 3 labels"):
        label_errors(TEXTS, ["a", "b", "c"], "test")


def test_what_has_an_intent_and_slots_is_refused_for_that():
    row = {"id": "test:0", "gold": {"intent": "go", "tags": ["O"]}, "probabilities": [{"go": 1.0}, {"O": 1.0}]}
    with pytest.raises(DataError, match=r"test:0: its gold has several parts, such as an intent and slots"):
        label_errors([row], ["O", "intent/go"], "test")


def test_nothing_to_judge():
    assert label_errors([], ["a", "b"], "test") == []
    assert label_errors(TEXTS[-1:], ["a", "b"], "test") == []


class Searched(np.ndarray):
    """An array that counts how often all of it is searched."""

    times = 0

    def argmax(self, *args, **kwargs):
        Searched.times += 1
        return np.asarray(self).argmax(*args, **kwargs)


def test_all_units_are_searched_once_not_for_each_error(monkeypatch):
    probabilities, gold = drawn(0)
    units = judged(
        [
            {"id": str(n), "input": "", "gold": str(label), "probabilities": dict(zip("0123", row, strict=True))}
            for n, (label, row) in enumerate(zip(gold, probabilities.tolist(), strict=True))
        ],
        "0123",
    )
    units = replace(units, probabilities=units.probabilities.view(Searched))
    monkeypatch.setattr("peftlab.data.cleaning.judged.judged", lambda rows, labels: units)
    found = label_errors([{"id": n, "input": ""} for n in range(len(gold))], "0123", "train")
    assert len(found) > 10
    assert all(one.suggested == str(probabilities[one.id].argmax()) for one in found)
    assert Searched.times < 5
