"""Calibration: against torchmetrics, scikit-learn, and probabilities that are right by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from peftlab.report.statistics.calibration import calibration


def test_as_others_have_it(cases):
    random = np.random.default_rng(0)
    for _ in cases:
        classes, number, bins = (int(one) for one in random.integers((2, 20, 2), (6, 200, 20)))
        probabilities = random.dirichlet(np.full(classes, 0.5), number)
        gold = random.integers(0, classes, number)
        found = calibration(probabilities, gold, bins)
        expected = multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(gold), classes, n_bins=bins, norm="l1"
        )
        assert found.ece == pytest.approx(expected.item(), abs=1e-6)  # which is in single precision
        truth = np.eye(classes)[gold]
        assert found.brier == pytest.approx(((probabilities - truth) ** 2).sum(axis=1).mean(), abs=1e-9)
        assert found.nll == pytest.approx(log_loss(gold, probabilities, labels=range(classes)), abs=1e-9)
        assert sum(one.number for one in found.bins) == number
        filled = [one for one in found.bins if one.number]
        apart = sum(one.number * abs(one.confidence - one.accuracy) for one in filled) / number
        assert found.ece == pytest.approx(apart, abs=1e-9)


def test_probabilities_that_come_true_are_calibrated():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet([1, 1, 1], 50_000)
    gold = (random.random((50_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=2)
    assert calibration(probabilities, gold).ece < 0.01
    assert calibration(np.eye(3)[gold], (gold + 1) % 3).ece == 1


def test_a_certain_prediction_is_in_the_last_bin_and_a_certain_error_has_a_likelihood():
    found = calibration(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), bins=4)
    assert [one.number for one in found.bins] == [0, 0, 0, 2]
    assert (found.bins[0].confidence, found.bins[3].accuracy) == (None, 0.5)
    assert np.isfinite(found.nll)


@pytest.mark.parametrize(
    ("probabilities", "gold", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "do not fit"),
        (np.full((2, 2), 0.5), np.zeros(3, int), "do not fit"),
        (np.full((2, 2), 0.4), np.zeros(2, int), "do not sum to 1"),
    ],
)
def test_what_are_no_probabilities(probabilities, gold, message):
    with pytest.raises(ValueError, match=message):
        calibration(probabilities, gold)
