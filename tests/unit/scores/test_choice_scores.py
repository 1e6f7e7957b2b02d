"""Accuracy of choices, and what it is by position of the right one."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from peftlab.scores.choice_scores import MOST, ChoiceScores


def answers(count, seed=0):
    draw = random.Random(seed)
    for _ in range(count):
        number = draw.randint(2, 5)
        yield {"gold": draw.randrange(number), "predicted": draw.randrange(number), "choices": number}


def test_the_accuracy_is_that_of_scikit_learn_by_position_too():
    scorer, rows = ChoiceScores(), list(answers(300))
    gold, predicted = ([row[key] for row in rows] for key in ("gold", "predicted"))
    total = scorer.total(rows)
    assert scorer.scores(total) == {"accuracy": float(np.float32(accuracy_score(gold, predicted)))}
    columns, table = scorer.tables(total)["positions"]
    assert columns == ["position", "accuracy", "support", "predicted"]
    for position, accuracy, support, guesses in table:
        own = [row for row in rows if row["gold"] == position]
        assert support == len(own)
        assert accuracy == pytest.approx(sum(row["predicted"] == position for row in own) / len(own))
        assert guesses == predicted.count(position)
    assert scorer.details(total)["guessing"] == pytest.approx(np.mean([1 / row["choices"] for row in rows]), rel=1e-6)
    assert f"accuracy {scorer.scores(total)['accuracy']:.4f}" in scorer.report(total)


def test_many_sums_at_once_are_those_one_by_one():
    scorer = ChoiceScores()
    totals = np.stack([scorer.total(answers(n, n)) for n in range(5)])
    expected = [scorer.scores(total)["accuracy"] for total in totals]
    assert scorer.batched(totals)["accuracy"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"gold": 3}, {"gold": None}, {"predicted": -1}, {"predicted": "a"}, {"choices": 1}, {"choices": MOST + 1}],
)
def test_what_is_no_choice_is_refused(wrong):
    with pytest.raises(ValueError, match="choice"):
        ChoiceScores().total([{"gold": 0, "predicted": 1, "choices": 3} | wrong])
