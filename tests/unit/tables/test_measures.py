"""Measures against scikit-learn, scipy and the bootstrap; what sums must be equal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from peftlab.report.statistics.membership import clopper_pearson
from peftlab.scores import ordering
from peftlab.tables import measures

RANDOM = np.random.default_rng(0)
Y = RANDOM.random(400) < 0.3
SCORES = np.round(RANDOM.normal(size=400) + Y, 1)  # with ties
OTHERS = np.round(SCORES + RANDOM.normal(size=400), 1)
PROBABILITIES = 1 / (1 + np.exp(1 - SCORES))


def test_ranks_and_probabilities_are_measured_as_the_libraries_do():
    assert ordering.auc(SCORES, Y) == pytest.approx(roc_auc_score(Y, SCORES), abs=1e-12)
    assert measures.gini(SCORES, Y) == pytest.approx(2 * roc_auc_score(Y, SCORES) - 1, abs=1e-12)
    assert measures.ks(SCORES, Y) == pytest.approx(ks_2samp(SCORES[Y], SCORES[~Y]).statistic, abs=1e-12)
    assert measures.brier(PROBABILITIES, Y) == pytest.approx(brier_score_loss(Y, PROBABILITIES), abs=1e-12)
    assert measures.log_loss(PROBABILITIES, Y) == pytest.approx(log_loss(Y, PROBABILITIES), abs=1e-12)


def test_weights_are_how_often_a_row_is_there():
    times = RANDOM.integers(0, 3, len(Y))
    rows = np.repeat(np.arange(len(Y)), times)
    for of, values in (
        *((of, SCORES) for of in (ordering.auc, measures.ks)),
        *((of, PROBABILITIES) for of in (measures.brier, measures.log_loss)),
    ):
        assert of(values, Y, times.astype(float)) == pytest.approx(of(values[rows], Y[rows]), abs=1e-12), of


@pytest.mark.slow
def test_delong_agrees_with_the_bootstrap_and_with_the_definition():
    aucs, covariance = measures.delong(np.stack([SCORES, OTHERS]), Y)
    assert aucs == pytest.approx([roc_auc_score(Y, SCORES), roc_auc_score(Y, OTHERS)], abs=1e-12)
    wins = [np.sign(of[Y][:, None] - of[~Y]) / 2 + 0.5 for of in (SCORES, OTHERS)]  # the structural components
    of_rows, of_columns = (np.cov([win.mean(axis=axis) for win in wins]) for axis in (1, 0))
    assert covariance == pytest.approx(of_rows / Y.sum() + of_columns / (~Y).sum(), abs=1e-12)
    exact = measures.auc_difference(SCORES, OTHERS, Y)
    gain = {"gain": lambda weights: ordering.auc(SCORES, Y, weights) - ordering.auc(OTHERS, Y, weights)}
    drawn = measures.resampled(gain, np.arange(len(Y)), Y, resamples=2000)["gain"]
    assert exact.value == pytest.approx(drawn.value, abs=1e-12)
    assert [exact.low, exact.high] == pytest.approx([drawn.low, drawn.high], abs=0.01)


def test_a_perfect_order_of_few_rows_is_not_certain():
    y = np.arange(60) < 12
    for sign, value in ((1, 1.0), (-1, 0.0)):
        own = measures.auc_interval(sign * y.astype(float), y)
        beside = clopper_pearson(12 if value else 0, 12)
        assert (own.value, own.low, own.high) == pytest.approx((value, beside.low, beside.high))
    of_applicants = measures.auc_interval(y.astype(float), y, clusters=np.arange(60) // 3)
    assert of_applicants.low == pytest.approx(clopper_pearson(4, 4).low)


def test_clusters_are_drawn_whole():
    doubled = np.tile(np.arange(len(Y)), 2)
    twice = {"auc": lambda weights: ordering.auc(np.tile(SCORES, 2), np.tile(Y, 2), weights)}
    once = {"auc": lambda weights: ordering.auc(SCORES, Y, weights)}
    interval = measures.resampled(twice, doubled, np.tile(Y, 2), resamples=200)["auc"]
    assert interval == measures.resampled(once, np.arange(len(Y)), Y, resamples=200)["auc"]


@pytest.mark.slow
def test_the_parts_of_the_brier_score_are_the_whole():
    parts = measures.brier_parts(PROBABILITIES, Y)
    sum_ = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
    assert sum_ == pytest.approx(measures.brier(PROBABILITIES, Y), abs=1e-12)
    few = np.round(PROBABILITIES, 1)  # each bin has one probability
    assert measures.brier_parts(few, Y, bins=400)["within"] == pytest.approx(0, abs=1e-12)
    chance = measures.error_if_calibrated(PROBABILITIES)
    drawn = np.random.default_rng(1).random((200, 400)) < PROBABILITIES
    assert chance == pytest.approx(np.mean([measures.calibration_error(PROBABILITIES, y) for y in drawn]), abs=2e-3)
    wrong = PROBABILITIES / 2
    assert measures.calibration_error(wrong, Y) > 2 * measures.error_if_calibrated(wrong)
    curve = measures.calibration_curve(few, Y)
    assert sum(curve.number) == len(Y)
    assert len(curve.edges) == len(curve.number) + 1
    constant = measures.calibration_curve(np.full(len(Y), 0.3), Y)
    assert (constant.number, constant.outcome) == ((len(Y),), (Y.mean(),))


def test_equal_probabilities_are_one_bin():
    assert measures.calibration_curve(np.full(4, 0.25), np.array([True, False, False, True])) == measures.Curve(
        edges=(0.0, 1.0), forecast=(0.25,), outcome=(0.5,), number=(4,)
    )
