"""The kept models answer as scikit-learn does, and their contributions are Shapley's by definition."""

from __future__ import annotations

import json
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from peftlab.tables.calibrators import Sigmoid, calibrated
from peftlab.tables.columns import Feature
from peftlab.tables.models import MODELS

RANDOM = np.random.default_rng(1)
MATRIX = RANDOM.normal(size=(300, 5))
MATRIX[RANDOM.random(300) < 0.2, 0] = np.nan
Y = RANDOM.random(300) < 1 / (1 + np.exp(-np.nan_to_num(MATRIX[:, 0]) * MATRIX[:, 1] - MATRIX[:, 3]))
FEATURES = [Feature("a", 0, 1), Feature("b", 1, 3), Feature("c", 3, 4), Feature("d", 4, 5)]


@pytest.fixture(scope="module")
def fitted():
    """Each kind of model, through the form in which it is kept."""
    made = {}
    for kind, cls in MODELS.items():
        matrix = MATRIX if cls.keep_missing else np.nan_to_num(MATRIX)
        made[kind] = cls.of_json(json.loads(json.dumps(cls.fitted(matrix, Y).as_json())), 5), matrix
    return made


@pytest.mark.slow
def test_a_model_answers_as_scikit_learn_does(fitted):
    logistic, matrix = fitted["logistic"]
    theirs = LogisticRegression(max_iter=2000, tol=1e-6).fit(matrix, Y).decision_function(matrix)
    assert logistic.margin(matrix) == pytest.approx(theirs, abs=1e-12)
    boosting, matrix = fitted["boosting"]
    theirs = HistGradientBoostingClassifier(early_stopping=False, random_state=0).fit(matrix, Y)
    new = np.concatenate([matrix, RANDOM.normal(size=(100, 5)) * 5, np.full((1, 5), np.nan)])
    assert boosting.margin(new) == pytest.approx(theirs.decision_function(new), abs=1e-12)


@pytest.mark.exhaustive
def test_contributions_are_the_shapley_values_of_the_definition(fitted):
    for model, matrix in fitted.values():
        rows, background = matrix[:3], matrix[50:58]

        def worth(row, members, model=model, background=background):
            mixed = background.copy()
            for feature in members:
                mixed[:, feature.start : feature.stop] = row[feature.start : feature.stop]
            return model.margin(mixed).mean()

        found = model.contributions(rows, background, FEATURES)
        for row, own in zip(rows, found, strict=True):
            for feature, value in zip(FEATURES, own, strict=True):
                others = [one for one in FEATURES if one != feature]
                expected = sum(
                    factorial(size) * factorial(3 - size) / factorial(4) * (worth(row, [*of, feature]) - worth(row, of))
                    for size in range(4)
                    for of in combinations(others, size)
                )
                assert value == pytest.approx(expected, abs=1e-9)
        assert found.sum(axis=1) == pytest.approx(model.margin(rows) - model.margin(background).mean(), abs=1e-9)


@pytest.mark.slow
def test_trees_that_go_round_are_refused(fitted):
    document = fitted["boosting"][0].as_json()
    for key, value, message in (("left", 0, "follow from each other"), ("feature_idx", 5, "beyond the 5")):
        damaged = json.loads(json.dumps(document))
        damaged["trees"][0][key][0] = value
        with pytest.raises(ValueError, match=message):
            MODELS["boosting"].of_json(damaged, 5)


def test_calibrators_learn_what_margins_mean():
    margins = RANDOM.normal(size=4000) * 2
    y = RANDOM.random(4000) < 1 / (1 + np.exp(-(0.5 * margins - 1)))
    platt = calibrated("platt", margins, y)
    assert [platt.slope, platt.shift] == pytest.approx([0.5, -1.0], abs=0.1)
    theirs = LogisticRegression(C=np.inf, tol=1e-8).fit(margins[:, None], y)
    assert [platt.slope, platt.shift] == pytest.approx([theirs.coef_[0, 0], theirs.intercept_[0]], abs=5e-3)
    steps = calibrated("isotonic", margins, y)
    probabilities = steps.probabilities(np.array([-100.0, *np.sort(margins), 100.0]))
    assert (np.diff(probabilities) >= 0).all()
    assert 0 < probabilities[0] < probabilities[-1] < 1
    assert calibrated("none", margins, y) == Sigmoid(1.0, 0.0)
    backward = calibrated("platt", margins, ~y)
    assert (backward.slope, backward.probabilities(margins[:1])[0]) == (0, pytest.approx((~y).mean(), abs=1e-3))


@pytest.mark.slow
def test_trees_that_ask_whether_a_number_is_missing_are_kept():
    random = np.random.default_rng(2)
    numbers = np.where(random.random(300) < 0.5, random.normal(size=300), np.nan)
    matrix = np.stack([numbers, np.isnan(numbers)], axis=1)
    y = np.isnan(numbers) ^ (random.random(300) < 0.1)
    theirs = HistGradientBoostingClassifier(early_stopping=False, random_state=0).fit(matrix, y)
    assert any(np.isinf(tree.nodes["num_threshold"]).any() for (tree,) in theirs._predictors)
    kept = json.loads(json.dumps(MODELS["boosting"].fitted(matrix, y).as_json(), allow_nan=False))
    new = np.concatenate([matrix, [[1e300, 0.0], [-1e300, 1.0]]])
    assert MODELS["boosting"].of_json(kept, 2).margin(new) == pytest.approx(theirs.decision_function(new), abs=1e-12)
