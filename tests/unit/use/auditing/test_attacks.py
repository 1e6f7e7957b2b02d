"""Scores of attacks on losses that are made up: what is known of the models is known here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from peftlab.use.auditing import attacks


def population(seed: int, models: int, examples: int, memory: float) -> tuple[np.ndarray, np.ndarray]:
    """Return confidences of models, and what each has seen: pairs of halves, as `shadows_of` makes them."""
    random = np.random.default_rng(seed)
    coins = random.random((models // 2, examples)) < 0.5
    seen = np.stack([coins, ~coins], axis=1).reshape(models, examples)
    hard = 3 * random.normal(size=examples)
    return hard + random.normal(size=(models, examples)) + memory * seen, seen


def test_confidence_is_the_logit_of_the_probability_and_finite():
    probabilities = np.asarray([0.01, 0.5, 0.99])
    found = attacks.confidence(-np.log(probabilities))
    assert found == pytest.approx(np.log(probabilities / (1 - probabilities)))
    assert np.isfinite(attacks.confidence(np.asarray([0.0, 1e-30, 1e3]))).all()
    assert np.isnan(attacks.confidence(np.asarray([np.nan])))[0]


def test_online_scores_are_ratios_of_two_normal_densities():
    confidences, seen = population(0, 130, 7, 1.0)
    others, known = confidences[2:], seen[2:]
    found = attacks.lira_online(confidences[0], others, known)
    for n in range(7):
        densities = [
            norm.logpdf(confidences[0, n], values.mean(), values.std(ddof=1))
            for values in (others[known[:, n], n], others[~known[:, n], n])
        ]
        assert found[n] == pytest.approx(densities[0] - densities[1])


def test_with_few_models_the_examples_share_a_variance():
    confidences, seen = population(1, 8, 50, 1.0)
    found = attacks.lira_offline(confidences[0], confidences[2:], seen[2:])
    apart = attacks.reference(confidences[0], confidences[2:], seen[2:])
    assert found / apart == pytest.approx(np.full(50, (found / apart)[0]))


@pytest.mark.slow
def test_stronger_attacks_find_more_of_what_is_learnt_by_heart():
    areas = {"loss": [], "reference": [], "lira_offline": [], "lira_online": []}
    for seed in range(10):
        confidences, seen = population(seed, 18, 400, 1.5)
        made = {"loss": attacks.loss(confidences[0])}
        for name in ("reference", "lira_offline", "lira_online"):
            made[name] = getattr(attacks, name)(confidences[0], confidences[2:], seen[2:])
        for name, score in made.items():
            areas[name].append(roc_auc_score(seen[0], score))
    means = {name: np.mean(values) for name, values in areas.items()}
    assert means["loss"] < 0.7 < means["reference"] <= means["lira_online"] + 0.01
    assert means["lira_online"] > 0.8


@pytest.mark.slow
def test_nothing_is_found_where_nothing_is_learnt():
    for attack in (attacks.reference, attacks.lira_offline, attacks.lira_online):
        areas = []
        for seed in range(40):
            confidences, seen = population(seed, 10, 200, 0.0)
            areas.append(roc_auc_score(seen[0], attack(confidences[0], confidences[2:], seen[2:])))
        assert abs(np.mean(areas) - 0.5) < 3 * np.std(areas) / 40**0.5, attack.__name__


def test_an_example_that_all_have_seen_has_no_score():
    confidences, seen = population(2, 8, 20, 1.0)
    seen[:, 3] = True
    seen[:, 4] = False
    assert np.flatnonzero(np.isnan(attacks.reference(confidences[0], confidences[2:], seen[2:]))).tolist() == [3]
    assert np.flatnonzero(np.isnan(attacks.lira_online(confidences[0], confidences[2:], seen[2:]))).tolist() == [3, 4]
