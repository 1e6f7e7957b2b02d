"""Measures by group, against fairlearn, scikit-learn and loops."""

from __future__ import annotations

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate, selection_rate
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from peftlab.report.statistics.calibration import calibration
from peftlab.report.statistics.measures import Ranking, Ratio, calibration_error


def binary(case: int, rows: int = 90):
    """Return gold, predictions and three groups, all whole numbers."""
    random = np.random.default_rng(case)
    return random.integers(0, 2, rows), random.integers(0, 2, rows), random.integers(0, 3, rows)


def test_rates_are_those_of_fairlearn():
    gold, predicted, groups = binary(0)
    ones = np.ones(len(gold))
    theirs = {
        "accuracy": accuracy_score,
        "fnr": false_negative_rate,
        "fpr": false_positive_rate,
        "selection_rate": selection_rate,
        "f1": f1_score,
    }
    measures = (
        Ratio("accuracy", (gold == predicted) * 1.0, ones),
        Ratio("fnr", gold * (1.0 - predicted), gold * 1.0),
        Ratio("fpr", (1.0 - gold) * predicted, 1.0 - gold),
        Ratio("selection_rate", predicted * 1.0, ones),
        Ratio("f1", 2.0 * gold * predicted, gold + predicted * 1.0),
    )
    frame = MetricFrame(metrics=theirs, y_true=gold, y_pred=predicted, sensitive_features=groups)
    for measure in measures:
        values = measure.at(groups[None], 3)[0][0]
        assert values == pytest.approx(frame.by_group[measure.name].to_numpy(), abs=1e-12)
        assert np.ptp(values) == pytest.approx(frame.difference()[measure.name], abs=1e-12)
        assert measure.overall(groups) == pytest.approx(frame.overall[measure.name], abs=1e-12)


def test_the_error_of_a_rate_has_two_examples_more():
    right, groups = np.array([1, 1, 0, 1, 1, 1]) * 1.0, np.array([0, 0, 0, 1, 1, 1])
    _, ses = Ratio("accuracy", right, np.ones(6)).at(groups[None], 2)
    shrunk = np.array([3 / 5, 4 / 5])
    assert ses[0] == pytest.approx(np.sqrt(shrunk * (1 - shrunk) / 5))


def test_influences_give_the_errors_over_clusters():
    random = np.random.default_rng(1)
    clusters = np.repeat(np.arange(40), 5)
    groups = random.integers(0, 2, 40)[clusters]
    error = random.normal(size=200) + random.normal(size=40)[clusters]
    measure = Ratio("bias", error, np.ones(200), share=False)
    influence = measure.influence(groups, 2, clusters)
    assert influence.shape == (40, 2)
    for group in (0, 1):
        means = error.reshape(40, 5).mean(axis=1)[groups[::5] == group]
        units = len(means)
        expected = means.std(ddof=1) / np.sqrt(units)
        assert np.sqrt((influence[:, group] ** 2).sum() * units / (units - 1)) == pytest.approx(expected)
        assert measure.clustered(clusters).at(groups[None, ::5], 2)[1][0, group] == pytest.approx(expected)


def test_areas_are_those_of_scikit_learn_on_the_subsets():
    for case in range(3):
        random = np.random.default_rng(case)
        positive, _, groups = binary(case)
        positive = positive.astype(bool)
        scores = np.round(random.random(len(groups)) + 0.3 * positive, 1)  # with ties
        for kind, own in (("bpsn", ~positive), ("bnsp", positive)):
            values = Ranking(kind, scores, positive, kind).at(groups[None], 3)[0][0]
            for group in range(3):
                chosen = np.where(groups == group, own, ~own)
                assert values[group] == pytest.approx(roc_auc_score(positive[chosen], scores[chosen]), abs=1e-12)
        assert Ranking("bpsn", scores, positive).overall(groups) == pytest.approx(roc_auc_score(positive, scores))


def test_errors_of_an_area_are_those_of_delong():
    random = np.random.default_rng(0)
    positive, groups = random.random(60) < 0.5, random.integers(0, 2, 60)
    scores = random.random(60) + 0.5 * positive
    low, high = scores[~positive & (groups == 0)], scores[positive & (groups == 1)]
    of_low = np.array([(high > one).mean() for one in low])
    of_high = np.array([(low < one).mean() for one in high])
    variance = of_low.var() / len(low) + of_high.var() / len(high) + (len(low) ** -2.0 + len(high) ** -2.0) / 8
    measure = Ranking("bpsn", scores, positive)
    assert measure.at(groups[None], 2)[1][0, 0] == pytest.approx(np.sqrt(variance))
    # pairs of rows as clusters: what was independent before now adds up
    clusters = np.arange(60) // 2
    summed = measure.influence(groups, 2, np.arange(60)).reshape(30, 2, 2).sum(axis=1)
    assert measure.influence(groups, 2, clusters) == pytest.approx(summed)


def test_the_calibration_error_is_that_of_reports():
    random = np.random.default_rng(0)
    confidence, groups = random.uniform(0.5, 1, 200), random.integers(0, 2, 200)
    happened = random.random(200) < confidence**2
    values = calibration_error("ece", confidence, happened).at(groups[None], 2)[0][0]
    for group in (0, 1):
        own = groups == group
        both = np.stack([confidence[own], 1 - confidence[own]], axis=1)
        assert values[group] == pytest.approx(calibration(both, (~happened[own]).astype(int)).ece)


def test_many_divisions_are_as_each_alone():
    random = np.random.default_rng(0)
    gold, predicted, groups = binary(3)
    several = np.stack([random.permutation(groups) for _ in range(4)])
    for measure in (
        Ratio("fnr", gold * (1.0 - predicted), gold * 1.0),
        Ranking("bnsp", random.random(90), gold.astype(bool), "bnsp"),
        calibration_error("ece", random.random(90), predicted),
    ):
        values, ses = measure.at(several, 3)
        alone = [measure.at(one[None], 3) for one in several]
        assert values == pytest.approx(np.concatenate([value for value, _ in alone]))
        assert ses is None or ses == pytest.approx(np.concatenate([se for _, se in alone]))
