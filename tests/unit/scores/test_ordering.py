from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from peftlab.scores.ordering import auc


@pytest.mark.slow
def test_it_is_the_area_of_scikit_learn_with_ties_and_weights():
    random = np.random.default_rng(0)
    for _ in range(30):
        happened = np.append(random.random(40) < 0.3, [True, False])
        scores, weights = random.integers(0, 8, 42).astype(float), random.integers(1, 4, 42)
        assert auc(scores, happened) == pytest.approx(roc_auc_score(happened, scores), abs=1e-12)
        expected = roc_auc_score(happened, scores, sample_weight=weights)
        assert auc(scores, happened, weights) == pytest.approx(expected, abs=1e-12)


def test_of_one_kind_alone_there_is_none():
    assert math.isnan(auc(np.arange(3.0), np.ones(3, bool)))
