from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from peftlab.errors import ConfigError
from peftlab.tasks.outputs.thresholds import (
    FEWEST_POSITIVES,
    USUAL,
    best_threshold,
    chosen_thresholds,
    learnt_thresholds,
)


@pytest.mark.slow
def test_no_other_threshold_has_a_better_f1():
    draw = np.random.default_rng(0)
    for _ in range(100):
        gold = draw.random(15) < draw.random()
        probabilities = np.round(draw.random(15), draw.integers(1, 3))  # with ties
        learnt = best_threshold(probabilities, gold)
        if not gold.any():
            assert learnt == 0.5
            continue
        given = probabilities >= np.linspace(0, 1, 201)[:, None]  # by every other threshold
        best = (2 * (given & gold).sum(1) / (given.sum(1) + gold.sum())).max()
        assert f1_score(gold, probabilities >= learnt, zero_division=0) == pytest.approx(best)
        assert 0 <= learnt < 1


@pytest.mark.parametrize(
    ("probabilities", "gold", "expected"),
    [
        ([0.9, 0.8, 0.3, 0.2], [1, 1, 0, 0], 0.55),  # the middle of the gap
        ([0.9, 0.3, 0.3, 0.2], [1, 1, 0, 0], 0.25),  # equal probabilities are given together
        ([0.9, 0.8], [1, 1], 0.4),  # all of them
        ([0.9, 0.8], [0, 0], 0.5),
        ([], [], 0.5),
    ],
)
def test_by_hand(probabilities, gold, expected):
    assert best_threshold(np.asarray(probabilities), np.asarray(gold, bool)) == pytest.approx(expected)


def test_a_rare_label_takes_the_global_threshold():
    draw = np.random.default_rng(0)
    gold = np.zeros((60, 2), bool)
    gold[:FEWEST_POSITIVES, 0] = gold[: FEWEST_POSITIVES - 1, 1] = True
    probabilities = draw.random((60, 2))
    by_label = learnt_thresholds(probabilities, gold, ["often", "rare"], by_label=True)
    for_all = learnt_thresholds(probabilities, gold, ["often", "rare"], by_label=False)
    assert (
        for_all["often"] == for_all["rare"] == by_label["rare"] == best_threshold(probabilities.ravel(), gold.ravel())
    )
    assert by_label["often"] == best_threshold(probabilities[:, 0], gold[:, 0]) != for_all["often"]


def test_chosen_ones():
    assert chosen_thresholds(0.3, ["a", "b"]) == {"a": 0.3, "b": 0.3}
    assert chosen_thresholds({"b": 0.1}, ["a", "b"]) == {"a": 0.5, "b": 0.1}
    with pytest.raises(ConfigError, match=r"no label 'anger'\. Did you mean 'angry'\?"):
        chosen_thresholds({"anger": 0.1}, ["angry"])


def test_few_positives_leave_the_usual_threshold():
    probabilities = np.tile([[0.9, 0.1], [0.7, 0.2]], (10, 1))
    gold = np.zeros((20, 2), bool)
    gold[: FEWEST_POSITIVES - 1, 0] = True
    assert learnt_thresholds(probabilities, gold, ["a", "b"], by_label=True) == {"a": USUAL, "b": USUAL}
    gold[FEWEST_POSITIVES, 0] = True
    assert USUAL not in learnt_thresholds(probabilities, gold, ["a", "b"], by_label=True).values()
