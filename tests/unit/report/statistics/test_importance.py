"""Importance of hyperparameters: against all settings tried out, and where it is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from peftlab.report.statistics.importance import importance, shares_of_tree


def test_the_shares_of_a_tree_by_trying_all_settings():
    random = np.random.default_rng(0)
    for depth in (1, 3, None):
        inputs = random.integers(0, (4, 3, 5), (60, 3))
        tree = DecisionTreeRegressor(max_depth=depth, random_state=0).fit(inputs, random.normal(size=60))
        weights = [np.bincount(column, minlength=size) / 60 for column, size in zip(inputs.T, (4, 3, 5), strict=True)]
        every = np.array(list(itertools.product(range(4), range(3), range(5))))
        chance = np.prod([weight[every[:, place]] for place, weight in enumerate(weights)], axis=0)
        value = tree.predict(every)
        mean = chance @ value
        expected = []
        for place, weight in enumerate(weights):
            given = [every[:, place] == level for level in range(len(weight))]
            marginal = [(chance[one] @ value[one]) / chance[one].sum() for one in given]
            expected.append(weight @ (np.array(marginal) - mean) ** 2 / (chance @ (value - mean) ** 2))
        assert shares_of_tree(tree.tree_, weights) == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_what_decides_comes_first_whatever_its_scale():
    random = np.random.default_rng(1)
    settings = [
        {
            "optimizer.lr": 10 ** random.uniform(-6, -2),
            "peft.r": int(random.choice([4, 8])),
            "model": random.choice(["a", "b"]),
        }
        for _ in range(80)
    ]
    scores = [-((np.log10(one["optimizer.lr"]) + 4) ** 2) + 0.1 * (one["model"] == "a") for one in settings]
    found = importance(settings, scores)
    assert found.of[0].name == "optimizer.lr"
    assert found.of[0].share > 0.8
    assert found.fit > 0.8


@pytest.mark.slow
def test_noise_is_told_by_its_fit():
    random = np.random.default_rng(2)
    found = importance([{"a": random.random(), "b": random.random()} for _ in range(40)], random.random(40))
    assert found.fit < 0.1
    assert importance([{"a": i, "b": 1} for i in range(20)], [1.0] * 20).of[0].share == 0


def test_few_trials_and_unequal_ones_are_refused():
    with pytest.raises(ValueError, match="at least 10"):
        importance([{"a": 1}] * 9, [1.0] * 9)
    with pytest.raises(ValueError, match="differ in their hyperparameters; the first has a"):
        importance([{"a": 1}] * 9 + [{"b": 1}], [1.0] * 10)
