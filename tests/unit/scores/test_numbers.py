"""Scores of numbers: equal to scipy's, in any order, and none where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from peftlab.scores.numbers import NumberScores, spearman
from peftlab.scores.of_record import scorer_of
from peftlab.scores.paired import counts_of


def answers_of(gold, predicted):
    return [{"gold": float(x), "predicted": float(y)} for x, y in zip(gold, predicted, strict=True)]


@pytest.mark.parametrize("cases", [30, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_they_are_those_of_scipy(cases):
    from scipy import stats

    draw = np.random.default_rng(cases)
    scorer = NumberScores()
    for _ in range(cases):
        gold = np.round(draw.normal(draw.normal() * 5, 2, 40), draw.integers(0, 4))  # with ties
        predicted = np.round(0.5 * gold + draw.normal(0, 1, 40), draw.integers(0, 4))
        answers = answers_of(gold, predicted)
        batched = {name: values[0] for name, values in scorer.batched(scorer.total(answers)[None]).items()}
        assert batched["pearson"] == pytest.approx(stats.pearsonr(gold, predicted)[0], abs=1e-10)
        assert batched["rmse"] == pytest.approx(np.sqrt(((gold - predicted) ** 2).mean()), abs=1e-12)
        assert batched["mae"] == pytest.approx(np.abs(gold - predicted).mean(), abs=1e-12)
        assert scorer.measured(answers)["spearman"] == pytest.approx(stats.spearmanr(gold, predicted)[0], abs=1e-7)


def test_the_order_changes_no_digit():
    draw = np.random.default_rng(0)
    gold, predicted = draw.normal(size=(2, 5000))
    order = draw.permutation(5000)
    assert spearman(gold, predicted) == spearman(gold[order], predicted[order])


@pytest.mark.slow
def test_ranks_of_millions_do_not_overflow():
    numbers = np.arange(3_100_000.0)
    assert (spearman(numbers, numbers), spearman(numbers, -numbers)) == (1, -1)


def test_many_sums_at_once_are_each_by_itself():
    draw = np.random.default_rng(0)
    scorer = NumberScores()
    counts = counts_of(scorer, answers_of(*draw.normal(size=(2, 12))))
    pairs = counts[::2] + counts[1::2]
    batched = scorer.batched(pairs)
    for n, one in enumerate(pairs):
        assert {name: np.float32(values[n]) for name, values in batched.items()} == scorer.scores(one)


@pytest.mark.parametrize("constant", [0.37, 1e6, 0.0])
def test_a_constant_correlates_with_nothing(constant):
    scorer = NumberScores()
    for gold, predicted in ((range(999), [constant] * 999), ([constant] * 999, range(999))):
        scores = scorer.measured(answers_of(gold, predicted))
        assert math.isnan(scores["pearson"])
        assert math.isnan(scores["spearman"])
        assert scores["rmse"] > 0
    assert math.isnan(scorer.measured([])["pearson"])


def test_a_rank_correlation_is_no_score_to_select_or_resample_by():
    assert "spearman" not in NumberScores.directions


@pytest.mark.parametrize("wrong", [None, "1", True])
def test_what_is_no_number_is_refused(wrong):
    for answer in ({"gold": 1.0, "predicted": wrong}, {"gold": wrong, "predicted": 1.0}):
        with pytest.raises(ValueError, match="no finite number"):
            NumberScores().counts(answer)


@pytest.mark.parametrize("diverged", [math.nan, math.inf, -math.inf])
def test_a_model_that_diverged_has_no_scores(diverged):
    answers = answers_of([1, 2, 3], [1, diverged, 3])
    assert all(math.isnan(score) for score in NumberScores().measured(answers).values())
    assert "nan" in NumberScores().report(NumberScores().total(answers))
    with pytest.raises(ValueError, match="no finite number"):
        NumberScores().counts({"gold": diverged, "predicted": 1.0})


def test_a_record_names_it():
    assert isinstance(scorer_of(NumberScores().name, []), NumberScores)
