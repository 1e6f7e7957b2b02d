"""What an ensemble learns on the validation split, against closed forms and general optimisers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from peftlab.use.ensembles.fitting import Decisions, best_temperature, best_weights, least_squares


def drawn(models=3, decisions=400, classes=4):
    random = np.random.default_rng(0)
    gold = random.integers(0, classes, decisions)
    logits = random.normal(size=(models, decisions, classes))
    logits[:, np.arange(decisions), gold] += np.array([0.2, 1.5, 1.0])[:models, None]
    return [Decisions(one, gold) for one in logits]


def test_weights_maximise_the_likelihood():
    logs = np.stack([one.log_likelihoods for one in drawn()])

    def loss(free):
        weights = np.exp(free) / np.exp(free).sum()
        return -np.log(weights @ np.exp(logs)).sum()

    weights = best_weights(logs)
    assert sum(weights) == pytest.approx(1)
    assert -np.log(weights @ np.exp(logs)).sum() <= minimize(loss, np.zeros(3), method="BFGS").fun + 1e-3
    assert best_weights(np.log([[0.9] * 5, [0.2] * 5])) == pytest.approx([1, 0], abs=1e-3)


def test_weights_of_numbers_minimise_the_squared_error():
    random = np.random.default_rng(0)
    gold = random.normal(size=300)
    predicted = np.stack(
        [gold + random.normal(size=300), gold + 0.5 * random.normal(size=300), random.normal(size=300)]
    )
    weights = least_squares(predicted, gold)
    assert sum(weights) == pytest.approx(1)
    best = minimize(
        lambda w: ((w @ predicted - gold) ** 2).sum(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    assert weights == pytest.approx(best.x, abs=1e-3)


def test_the_temperature_is_the_one_that_the_logits_were_divided_by():
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 3)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    gold = (random.random((20_000, 1)) > probabilities.cumsum(-1)).sum(-1)
    parts = [Decisions(logits[:8000] * 3, gold[:8000]), Decisions(logits[8000:] * 3, gold[8000:])]
    assert best_temperature(parts) == pytest.approx(3, rel=0.05)
    assert best_temperature([Decisions(np.eye(3), np.arange(3))]) == pytest.approx(0.05, rel=0.01)
