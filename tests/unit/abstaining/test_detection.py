from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from peftlab.abstaining.detection import aupr, auroc, fpr_at_recall, threshold_of
from peftlab.errors import ConfigError


@pytest.mark.slow
def test_areas_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    for _ in range(50):
        inside = random.integers(0, random.integers(2, 40), random.integers(1, 60)).astype(float)  # with ties
        outside = random.integers(-10, 30, random.integers(1, 60)).astype(float)
        is_outside = [0] * len(inside) + [1] * len(outside)
        unlikely = -np.concatenate([inside, outside])
        assert auroc(inside, outside) == pytest.approx(roc_auc_score(is_outside, unlikely), abs=1e-12)
        assert aupr(inside, outside) == pytest.approx(average_precision_score(is_outside, unlikely), abs=1e-12)
        wrongly, rightly, _ = roc_curve([1] * len(inside) + [0] * len(outside), -unlikely, drop_intermediate=False)
        assert fpr_at_recall(inside, outside) == wrongly[np.argmax(rightly >= 0.95 - 1e-12)]


def test_a_threshold_rejects_at_most_the_share_of_texts_in_scope():
    random = np.random.default_rng(1)
    for n in (1, 7, 20, 100, 333):
        inside = random.normal(size=n).round(1)
        for share in ("0.05", "0", "0.5", "1"):
            threshold = threshold_of(f"fpr:{share}", inside, np.empty(0))
            assert (inside < threshold).mean() <= float(share)
            assert share == "1" or (inside <= threshold).mean() > float(share)  # and no smaller share


def test_a_threshold_rejects_at_least_the_share_of_texts_out_of_scope():
    outside = np.asarray([3.0, 1.0, 2.0, 2.0])
    for share, rejected in (("0.25", 1), ("0.5", 3), ("0.75", 3), ("1", 4), ("0.9", 4)):
        assert (outside < threshold_of(f"recall:{share}", np.empty(0), outside)).sum() == rejected
    assert threshold_of(0.7, np.empty(0), np.empty(0)) == 0.7
    assert math.isfinite(threshold_of("recall:0", np.empty(0), outside))
    with pytest.raises(ConfigError, match=r"the validation split has no texts out of scope"):
        threshold_of("recall:0.9", outside, np.empty(0))
