"""Intervals of one run's score: against scipy on the same draws, and against formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import stdtrit

from peftlab.report.numbers import limits
from peftlab.report.statistics.bootstrap import bootstrap, jackknife_interval, over_test_sets, paired_bootstrap
from peftlab.report.statistics.measured import pseudo_values, score_of
from peftlab.scores.numbers import NumberScores
from peftlab.scores.paired import counts_of as counts_of_answers


def f1(totals):
    right, wrong = np.asarray(totals, float).T
    return 2 * right / np.maximum(2 * right + wrong, 1)


def counts_of(random, number, errors=1.0):
    """Return right and wrong entities of some documents of very different lengths."""
    lengths = 1 + random.geometric(0.1, number)
    return np.stack([random.binomial(lengths, 0.8), random.poisson(errors * lengths / 4)], axis=1)


def test_as_scipy_has_it_on_the_same_draws(cases):
    for seed in cases:
        random = np.random.default_rng(seed)
        counts = counts_of(random, random.integers(15, 40))
        method = ("percentile", "BCa")[seed % 2]
        interval = bootstrap(counts, f1, resamples=99, seed=seed, method=method)
        expected = stats.bootstrap(
            tuple(counts.T),
            lambda right, wrong, axis: f1(np.stack([right.sum(axis), wrong.sum(axis)], axis=-1)),
            paired=True,
            n_resamples=99,
            method=method,
            rng=np.random.default_rng(seed),
        )
        assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval), rel=1e-9)
        assert interval.se == pytest.approx(expected.standard_error, rel=1e-9)


def test_a_difference_is_that_on_the_same_clusters():
    random = np.random.default_rng(2)
    first, second = counts_of(random, 30), counts_of(random, 30)
    interval = paired_bootstrap(first, second, f1, resamples=500, seed=7)
    drawn = np.random.default_rng(7).integers(0, 30, (500, 30))
    apart = [f1(first[one].sum(axis=0)[None])[0] - f1(second[one].sum(axis=0)[None])[0] for one in drawn]
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(apart, [0.025, 0.975])), abs=1e-12)
    assert interval.value == pytest.approx(f1(first.sum(axis=0)[None])[0] - f1(second.sum(axis=0)[None])[0])
    with pytest.raises(ValueError, match="the same clusters"):
        paired_bootstrap(first, second[1:], f1)


def test_the_jackknife_is_the_delta_method_but_for_terms_of_second_order(cases):
    for seed in cases:
        random = np.random.default_rng(seed)
        counts = counts_of(random, 400)
        right, both = counts[:, 0], 2 * counts[:, 0] + counts[:, 1]
        value = 2 * right.sum() / both.sum()
        # of a ratio: the variance of the residuals, over the squared mean of the denominator
        se = np.sqrt(np.var(2 * right - value * both, ddof=1) / len(counts)) / both.mean()
        interval = jackknife_interval(pseudo_values(counts, f1))
        assert interval.value == pytest.approx(value, abs=1e-12)
        assert interval.se == pytest.approx(se, rel=0.02)
        half = stats.t.ppf(0.975, 399) * interval.se
        assert (interval.low, interval.high) == pytest.approx((value - half, value + half), rel=1e-9)


def test_the_limits_of_a_bounded_score_solve_wilsons_equation(cases):
    random = np.random.default_rng(3)
    for _ in cases:
        values = random.uniform(0.5, 1, random.integers(2, 50))
        interval = jackknife_interval(values, level=0.9, bounded=True)
        quantile = stats.t.ppf(0.95, len(values) - 1)
        effective = interval.value * (1 - interval.value) / interval.se**2
        for limit in (interval.low, interval.high):
            assert abs(interval.value - limit) == pytest.approx(
                quantile * np.sqrt(limit * (1 - limit) / effective), abs=1e-9
            )


def test_a_perfect_score_is_not_certain():
    interval = jackknife_interval(np.ones(20), bounded=True)
    assert (interval.se, interval.high) == (0, 1)
    assert 0.8 < interval.low < 0.9
    with pytest.raises(ValueError, match="between 0 and 1"):
        jackknife_interval(np.array([1.0, 3.0]), bounded=True)


@pytest.mark.parametrize(
    ("metric", "values", "low", "high"),
    [
        ("hamming_loss", [0.0, 0.0, 0.0, 0.1], 0, None),
        ("pearson", [0.7, 1.2, 0.9, 1.0], None, 1),
        ("pearson", [-0.7, -1.2, -0.9, -1.0], -1, None),
        ("rmse", [0.0, 0.0, 0.0, 5.0], 0, None),
        ("loss", [0.0, 0.0, 0.0, -5.0], None, None),
    ],
)
def test_an_interval_has_no_value_that_the_score_cannot_have(metric, values, low, high):
    free, interval = (over_test_sets(np.array(values), 0.95, own) for own in ((-np.inf, np.inf), limits(metric)))
    assert (interval.low, interval.high) == (free.low if low is None else low, free.high if high is None else high)
    assert interval.low <= interval.value <= interval.high


@pytest.mark.parametrize(
    "interval", [bootstrap, lambda counts, score: jackknife_interval(pseudo_values(counts, score))]
)
def test_one_cluster_has_no_interval_and_none_no_score(interval):
    about = interval(np.array([[3, 1]]), f1)
    assert (about.value, about.se, about.low, about.high) == (pytest.approx(6 / 7), None, None, None)
    with pytest.raises(ValueError, match="no cluster"):
        interval(np.zeros((0, 2), int), f1)


def test_clusters_widen_the_interval():
    """What depends on its neighbours tells less: resampling examples one by one hides that."""
    random = np.random.default_rng(4)
    right = np.repeat(random.binomial(1, 0.8, 60), 10)  # all ten examples of a document alike
    examples = np.stack([right, 1 - right], axis=1)
    by_example, by_document = (bootstrap(one, f1, 500) for one in (examples, examples.reshape(60, 10, 2).sum(axis=1)))
    assert by_document.se == pytest.approx(by_example.se * np.sqrt(10), rel=0.15)


def test_what_is_no_number_has_no_interval():
    over = over_test_sets(np.array([0.1, np.nan, 0.3]), 0.95, (-1.0, 1.0))
    assert np.isnan(over.value)
    assert (over.se, over.low, over.high) == (None, None, None)


@pytest.mark.parametrize(("counting", "like"), [(None, 200), (12, 12), (1, None), (0, None)])
def test_equal_clusters_are_worth_as_many_examples_as_count(counting, like):
    """All entities are found: of 12 sentences that have any, whatever the number of those without."""
    over = over_test_sets(np.ones(200), 0.95, (0, 1), counting)
    low = None if like is None else pytest.approx(like / (like + stdtrit(like - 1, 0.975) ** 2))  # Wilson's of all
    assert (over.value, over.low, over.clusters) == (1, low, 200)


def test_resamples_without_a_score_leave_no_interval():
    """Of most resamples of four examples the gold is constant, and nothing correlates with that."""
    scorer = NumberScores()
    counts = counts_of_answers(scorer, [{"gold": float(n == 3), "predicted": 0.1 * n} for n in range(4)])
    over = bootstrap(counts, score_of(scorer, "pearson"), 200)
    assert over.value > 0.7
    assert (over.se, over.low, over.high) == (None, None, None)
