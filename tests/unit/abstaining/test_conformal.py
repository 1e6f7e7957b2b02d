from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest, kstest

from peftlab.abstaining.conformal import (
    draws_of,
    limits_of,
    members,
    nonconformity,
    quantile,
    slack,
)
from peftlab.report.statistics.membership import clopper_pearson

ROW = np.asarray([[0.5, 0.1, 0.3, 0.1]])


def test_nonconformity_by_hand():
    assert nonconformity(ROW, "lac", np.zeros(1)) == pytest.approx(np.asarray([[0.5, 0.9, 0.7, 0.9]]))
    # Romano et al., equation 7: what is more probable, and a random share of the label itself
    assert nonconformity(ROW, "aps", np.asarray([1.0])) == pytest.approx(np.asarray([[0.5, 0.9, 0.8, 1.0]]))
    assert nonconformity(ROW, "aps", np.asarray([0.0])) == pytest.approx(np.asarray([[0.0, 0.8, 0.5, 0.9]]))


def test_quantiles_and_sets_by_hand():
    scores = np.arange(1, 10) / 10  # of 9 texts: the 9th smallest for 0.1, the 5th for 0.5
    assert quantile(scores, 0.1) == 0.9
    assert quantile(scores, 0.5) == 0.5
    assert quantile(scores, 0.05) is None
    assert members(np.asarray([[0.2, 0.6, 0.9]]), [0.5, 0.6, None]).tolist() == [[True, True, True]]
    golds = np.asarray([0] * 9 + [1] * 3)
    each = np.tile(np.append(scores, [0.1, 0.2, 0.3])[:, None], 2)
    assert limits_of(each, golds, 3, 0.1, by_class=True) == [0.9, None, None]
    assert limits_of(each, golds, 3, 0.5, by_class=False) == [0.4] * 3


def test_draws_are_uniform_and_belong_to_the_input():
    inputs = [f"text {n}" for n in range(2000)]
    draws = draws_of(inputs, seed=3)
    assert kstest(draws, "uniform").pvalue > 0.01
    assert draws_of([*reversed(inputs)], 3).tolist() == draws[::-1].tolist()
    assert draws_of(inputs[:1], 4) != draws[0]


@pytest.mark.slow
def test_the_coverage_of_200_calibrations_follows_its_beta_distribution():
    """Vovk 2012, proposition 2b: with continuous scores, coverage given the calibration set is Beta(n + 1 - l, l)."""
    random, n, alpha = np.random.default_rng(0), 99, 0.1
    expected = beta(n + 1 - 10, 10)
    for kind in ("lac", "aps"):
        coverage = []
        for _ in range(200):
            logits = random.normal(size=(n + 4000, 4)) * 2
            probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            golds = (probabilities.cumsum(1) > random.random((len(logits), 1))).argmax(1)
            scores = nonconformity(probabilities, kind, random.random(len(logits)))
            limits = limits_of(scores[:n], golds[:n], 4, alpha, by_class=False)
            coverage.append(members(scores[n:], limits)[np.arange(4000), golds[n:]].mean())
        low, high = expected.ppf([0.0001, 0.9999])
        assert low - 0.02 < min(coverage)
        assert max(coverage) < high + 0.02
        assert np.mean(coverage) == pytest.approx(expected.mean(), abs=4 * expected.std() / 200**0.5)
        assert kstest(coverage, expected.cdf).pvalue > 0.001


def test_the_interval_of_a_share_is_that_of_scipy():
    for hits, of in ((0, 5), (5, 5), (3, 10), (893, 1000)):
        expected = binomtest(hits, of).proportion_ci(method="exact")
        share = clopper_pearson(hits, of)
        assert (share.low, share.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_choosing_among_checkpoints_costs_coverage():
    assert slack(8, 1000) == pytest.approx((np.log(160) / 2000) ** 0.5)
