"""Scores of label sets: equal to scikit-learn's, and what an empty set counts for."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from peftlab.scores.label_sets import LabelSets
from peftlab.scores.of_record import scorer_of
from peftlab.scores.paired import counts_of


def answer(gold, predicted, **probabilities):
    return {"gold": gold, "predicted": predicted, "probabilities": probabilities}


def case(draw):
    """Return the labels and some answers, with ties, empty sets and labels that never occur."""
    labels = [f"l{n}" for n in range(draw.integers(2, 7))]
    gold, predicted = (draw.random((12, len(labels))) < draw.random() * 0.8 for _ in range(2))
    probabilities = np.round(draw.random(gold.shape), draw.integers(1, 4))

    def chosen(row):
        return [label for label, has in zip(labels, row, strict=True) if has]

    answers = [
        {"gold": chosen(g), "predicted": chosen(p), "probabilities": dict(zip(labels, map(float, q), strict=True))}
        for g, p, q in zip(gold, predicted, probabilities, strict=True)
    ]
    return labels, answers, gold, predicted, probabilities


@pytest.mark.slow
@pytest.mark.parametrize("cases", [30, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_they_are_those_of_scikit_learn(cases):
    from sklearn import metrics

    draw = np.random.default_rng(cases)
    for _ in range(cases):
        labels, answers, gold, predicted, probabilities = case(draw)
        occurring = np.flatnonzero(gold.any(0) | predicted.any(0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "ranking_average_precision": metrics.label_ranking_average_precision_score(gold, probabilities),
                "micro_f1": metrics.f1_score(gold, predicted, average="micro"),
                "macro_f1": metrics.f1_score(gold, predicted, labels=occurring, average="macro")
                if len(occurring)
                else 0.0,
                "weighted_f1": metrics.f1_score(gold, predicted, average="weighted"),
                "samples_f1": metrics.f1_score(gold, predicted, average="samples", zero_division=1),
                "subset_accuracy": metrics.accuracy_score(gold, predicted),
                "hamming_loss": metrics.hamming_loss(gold, predicted),
            }
        scorer = LabelSets(labels)
        batched = scorer.batched(scorer.total(answers)[None])
        assert {name: values[0] for name, values in batched.items()} == pytest.approx(expected, abs=1e-12)
        assert scorer.scores(scorer.total(answers)) == pytest.approx(expected, abs=1e-7)


def test_many_sums_at_once_are_each_by_itself():
    labels, answers, *_ = case(np.random.default_rng(1))
    scorer = LabelSets(labels)
    counts = counts_of(scorer, answers)
    batched = scorer.batched(counts)
    for n, one in enumerate(counts):
        assert {name: np.float32(values[n]) for name, values in batched.items()} == scorer.scores(one)


def test_an_empty_set_that_is_right_is_right():
    scorer = LabelSets(["a", "b"])
    scores = scorer.scores(scorer.total([answer([], [], a=0.1, b=0.2)]))
    assert (scores["samples_f1"], scores["subset_accuracy"], scores["hamming_loss"], scores["micro_f1"]) == (1, 1, 0, 0)


def test_the_table_shows_the_threshold_of_each_label():
    scorer = LabelSets(["b", "a"], {"a": 0.25})
    total = scorer.total([answer(["a"], ["a", "b"], a=0.9, b=0.6)])
    columns, rows = scorer.tables(total)["labels"]
    assert columns == ["label", "precision", "recall", "f1", "support", "predicted", "threshold"]
    assert rows == [["a", 1.0, 1.0, 1.0, 1, 1, 0.25], ["b", 0.0, 0.0, 0.0, 0, 1, None]]
    assert "0.2500" in scorer.report(total)


@pytest.mark.parametrize(
    "wrong", [answer(["c"], [], a=1, b=0), answer([], ["c"], a=1, b=0), answer([], [], a=1), answer([], [], a=1, c=1)]
)
def test_what_cannot_be_scored_is_refused(wrong):
    with pytest.raises(ValueError, match=r"unknown label 'c'|probabilities of all labels"):
        LabelSets(["a", "b"]).total([wrong])


def test_a_record_names_it():
    scorer = scorer_of(LabelSets([]).name, ["a", "b"])
    assert isinstance(scorer, LabelSets)
    assert scorer.labels == ["a", "b"]
