"""The curve of an attack, its area and its hits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from peftlab.report.statistics.membership import area, clopper_pearson, curve, rate


def normal(seed: int, apart: float, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    members = np.arange(2 * size) < size
    return random.normal(size=2 * size) + apart * members, members


def test_the_area_and_its_interval_are_delongs_where_no_examples_belong_together():
    scores, members = normal(0, 0.5)
    scores = scores.round(1)  # ties
    found = area(scores, members, np.arange(len(scores)))
    assert found.value == pytest.approx(roc_auc_score(members, scores), abs=1e-12)
    wins = np.sign(scores[members][:, None] - scores[~members]) / 2 + 0.5
    variance = wins.mean(1).var(ddof=1) / len(wins) + wins.mean(0).var(ddof=1) / wins.shape[1]  # DeLong et al. 1988
    half = 1.959964 * math.sqrt(variance) / (found.value * (1 - found.value))
    logits = [math.log(end / (1 - end)) for end in (found.low, found.value, found.high)]
    assert logits[2] - logits[1] == pytest.approx(half, rel=1e-6)
    assert logits[1] - logits[0] == pytest.approx(half, rel=1e-6)


@pytest.mark.slow
def test_the_interval_covers_where_examples_of_a_cluster_are_alike_and_that_of_single_examples_does_not():
    clusters = np.arange(400) // 10
    covered = {"clusters": 0, "examples": 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        scores = random.normal(size=40)[clusters] + 0.3 * random.normal(size=400)
        members = random.random(40)[clusters] < 0.5
        for name, units in (("clusters", clusters), ("examples", np.arange(400))):
            one = area(scores, members, units)
            covered[name] += one.low <= 0.5 <= one.high
    assert covered["clusters"] >= 180
    assert covered["examples"] < 120


def test_several_attacked_models_have_the_mean_area_with_the_interval_of_one_where_they_are_the_same():
    scores, members = normal(1, 1.0)
    clusters = np.arange(len(scores))
    alone = area(scores, members, clusters)
    assert area(np.stack([scores] * 3), np.stack([members] * 3), clusters).low == pytest.approx(alone.low)
    mean = area(np.stack([scores, -scores]), np.stack([members] * 2), clusters)
    assert mean.value == pytest.approx(0.5)


def test_an_attack_that_is_always_right_has_an_interval_too():
    members = np.arange(60) < 30
    found = area(members.astype(float), members, np.arange(60))
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.8 < found.low < 0.95


def test_hits_are_counted_at_no_more_false_alarms_than_are_allowed():
    scores, members = normal(2, 1.0)
    alarms, hits, _ = roc_curve(members, scores, drop_intermediate=False)
    for allowed in (0.001, 0.01, 0.1):
        found = rate(scores, members, allowed)
        assert found.tpr.value == hits[alarms <= allowed].max()
        assert found.false_alarms <= allowed * 200
        assert found.measurable == (allowed * 200 >= 1)
        assert found.fpr_high >= found.false_alarms / 200
    tied = rate(np.zeros(400), members, 0.1)
    assert (tied.tpr.value, tied.false_alarms) == (0.0, 0)  # scores that tell nothing hit nobody


def test_the_interval_of_a_share_is_scipys():
    for successes, trials in ((0, 7), (3, 7), (7, 7), (50, 1000)):
        found = clopper_pearson(successes, trials)
        exact = binomtest(successes, trials).proportion_ci(method="exact")
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)
    with pytest.raises(ValueError, match="nothing"):
        clopper_pearson(0, 0)


def test_the_curve_rises_from_corner_to_corner_with_few_points():
    scores, members = normal(3, 1.0, 5000)
    points = curve(scores, members)
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (1.0, 1.0)
    assert len(points) <= 201
    assert points == sorted(points)
    assert curve(np.zeros(400), members[:400] * False | (np.arange(400) < 9)) == [(0.0, 0.0), (1.0, 1.0)]
