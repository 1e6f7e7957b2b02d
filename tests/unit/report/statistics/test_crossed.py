"""Seeds and clusters together: against formulas written out, scipy's t tests and the ANOVA of statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from peftlab.report.statistics.bootstrap import jackknife_interval
from peftlab.report.statistics.crossed import components, components_of_difference, difference, expected
from peftlab.report.statistics.means import mean
from peftlab.report.statistics.measured import Measured


def drawn(random, seeds, clusters, seed=1.0, cluster=1.0, rest=1.0):
    """Return values with these variances, shape (seeds, clusters)."""
    return (
        np.sqrt(seed) * random.normal(size=(seeds, 1))
        + np.sqrt(cluster) * random.normal(size=(1, clusters))
        + np.sqrt(rest) * random.normal(size=(seeds, clusters))
    )


def measured(values, name="m", seeds=None):
    return Measured(name, tuple(seeds or range(len(values))), values.mean(axis=1), values)


def of_scores(scores, name="m"):
    return Measured.of_scores(name, dict(enumerate(scores)))


def mean_squares(values):
    """Return the mean squares of rows, columns and rest, summed cell by cell."""
    k, c = values.shape
    grand = sum(values[i, j] for i in range(k) for j in range(c)) / (k * c)
    row = [sum(values[i, j] for j in range(c)) / c for i in range(k)]
    column = [sum(values[i, j] for i in range(k)) / k for j in range(c)]
    return (
        c * sum((one - grand) ** 2 for one in row) / (k - 1),
        k * sum((one - grand) ** 2 for one in column) / (c - 1),
        sum((values[i, j] - row[i] - column[j] + grand) ** 2 for i in range(k) for j in range(c)) / ((k - 1) * (c - 1)),
    )


def limits(value, variance, df):
    half = stats.t.ppf(0.975, df) * np.sqrt(variance)
    return value - half, value + half


def test_one_method_by_the_formula(cases):
    random = np.random.default_rng(0)
    for _ in cases:
        k, c = int(random.integers(2, 6)), int(random.integers(2, 12))
        values = drawn(random, k, c, *random.exponential(size=3))
        rows, columns, rest = mean_squares(values)
        extra = max(columns - rest, 0)
        missing = max(rest - rows, 0)
        variance = (rows + missing + extra) / (k * c)
        spread = rows**2 / (k - 1) + missing**2 / ((k - 1) * (c - 1)) + extra**2 / (c - 1)
        df = (rows + missing + extra) ** 2 / spread
        about = expected(measured(values))
        assert (about.se, about.df) == pytest.approx((np.sqrt(variance), df), rel=1e-9)
        parts = [(variance, df), (rows / (k * c), k - 1), (columns / (k * c), c - 1)]
        widest = max((limits(values.mean(), *part) for part in parts), key=lambda ends: ends[1] - ends[0])
        assert (about.low, about.high) == pytest.approx(widest, rel=1e-9)
        split = components(values)
        assert split.shares().se == pytest.approx(about.se, rel=1e-9)
        found = (split.seed, split.cluster, split.rest)
        assert found == pytest.approx((max(rows - rest, 0) / c, extra / k, rest), abs=1e-9)


def test_two_methods_by_the_formula(cases):
    random = np.random.default_rng(1)
    for _ in cases:
        k, m, c = (int(number) for number in random.integers((2, 2, 2), (6, 6, 12)))
        first, second = drawn(random, k, c, *random.exponential(size=3)), drawn(random, m, c)
        squares = [mean_squares(first), mean_squares(second)]
        parts = [squares[0][0] / (k * c), squares[1][0] / (m * c)]
        apart = np.var(first.mean(axis=0) - second.mean(axis=0), ddof=1) / c
        extra = max(apart - squares[0][2] / (k * c) - squares[1][2] / (m * c), 0)
        variance = sum(parts) + extra
        spread = parts[0] ** 2 / (k - 1) + parts[1] ** 2 / (m - 1) + extra**2 / (c - 1)
        about = difference(measured(first), measured(second), paired=False)
        assert (about.se, about.df) == pytest.approx((np.sqrt(variance), variance**2 / spread), rel=1e-9)
        assert about.p() == pytest.approx(2 * stats.t.sf(abs(about.value) / about.se, about.df), abs=1e-9)
        split = components_of_difference(first, second, paired=False)
        assert split.cluster == pytest.approx(extra * c, abs=1e-9)


def test_pairs_are_those_of_equal_seeds():
    random = np.random.default_rng(2)
    first, second = drawn(random, 4, 9), drawn(random, 4, 9)
    about = difference(measured(first), measured(second[[2, 0, 3, 1]], seeds=(2, 0, 3, 1)), paired=True)
    rows, columns, rest = mean_squares(first - second)
    extra = max(columns - rest, 0)
    df = (rows + extra) ** 2 / (rows**2 / 3 + extra**2 / 8)
    assert (about.low, about.high) == pytest.approx(limits((first - second).mean(), (rows + extra) / 36, df), rel=1e-9)
    with pytest.raises(ValueError, match="no pairs"):
        difference(measured(first), measured(second[:3]), paired=True)


@pytest.mark.slow
def test_mean_squares_as_statsmodels_has_them():
    import pandas as pd
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    random = np.random.default_rng(3)
    for _ in range(10):
        values = drawn(random, 4, 6, 4.0, 4.0)
        cells = {
            "y": values.ravel(),
            "seed": np.repeat([str(i) for i in range(4)], 6),
            "cluster": np.tile([str(i) for i in range(6)], 4),
        }
        squares = anova_lm(ols("y ~ C(seed) + C(cluster)", pd.DataFrame(cells)).fit())["mean_sq"]
        split = components(values)
        assert split.rest == pytest.approx(squares["Residual"], rel=1e-9)
        assert split.rest + 6 * split.seed == pytest.approx(max(squares["C(seed)"], squares["Residual"]), rel=1e-9)
        assert split.rest + 4 * split.cluster == pytest.approx(squares["C(cluster)"], rel=1e-9)


def test_without_pseudo_values_it_is_the_t_test_over_seeds(cases):
    random = np.random.default_rng(4)
    for _ in cases:
        k, m = (int(number) for number in random.integers(2, 9, 2))
        first, second = random.normal(size=k), random.normal(scale=3, size=m)
        about = difference(of_scores(first), of_scores(second), paired=False)
        result = stats.ttest_ind(first, second, equal_var=False)
        assert (about.p(), about.df) == pytest.approx((result.pvalue, result.df), rel=1e-9)
        assert (about.low, about.high) == pytest.approx(tuple(result.confidence_interval()), abs=1e-9)
        pairs = difference(of_scores(first), of_scores(first[::-1]), paired=True)
        assert pairs.p() == pytest.approx(stats.ttest_rel(first, first[::-1]).pvalue, rel=1e-9)
        assert (about.covers, about.clusters, about.seeds) == ("seeds", None, min(k, m))


def test_of_one_seed_it_is_the_t_test_over_clusters():
    values = drawn(np.random.default_rng(5), 1, 30)
    about = expected(measured(values))
    assert about.p() == pytest.approx(stats.ttest_1samp(values[0], 0).pvalue, rel=1e-9)
    assert (about.covers, about.df) == ("test set", 29)
    apart = difference(measured(values), measured(drawn(np.random.default_rng(6), 3, 30)), paired=False)
    assert (apart.covers, apart.seeds) == ("test set", 1)


def test_a_single_score_says_nothing():
    about = expected(of_scores([0.9]))
    assert (about.value, about.se, about.low, about.p(), about.covers) == (0.9, None, None, None, "nothing")
    assert difference(of_scores([0.9]), of_scores([0.8, 0.7]), paired=False).p() is None
    for wrong in ("expected", "difference"):
        with pytest.raises(ValueError, match="run"):
            expected(of_scores([])) if wrong == "expected" else difference(of_scores([]), of_scores([1]), paired=False)


def test_what_never_varies_is_not_certain():
    assert difference(of_scores([0.9] * 3), of_scores([0.8] * 3), paired=False).p() == 1
    same = measured(np.full((3, 4), 0.5))
    assert difference(same, same, paired=True).p() == 1


def test_methods_are_compared_on_one_test_set():
    random = np.random.default_rng(7)
    with pytest.raises(ValueError, match="9 clusters, m on 8"):
        difference(measured(drawn(random, 3, 9)), measured(drawn(random, 3, 8)), paired=False)


def test_shares_add_up_and_seeds_do_not_shrink_the_test_sets_part():
    split = components(drawn(np.random.default_rng(8), 50, 400, seed=0.01, cluster=4.0, rest=1.0))
    found = (split.seed, split.cluster, split.rest)
    assert found == pytest.approx((0.01, 4.0, 1.0), rel=0.5)
    shares = split.shares()
    assert shares.seed + shares.cluster + shares.rest == pytest.approx(1)
    assert shares.se == pytest.approx(np.sqrt(split.variance(50, 400)))
    assert split.variance(10**9, 400) == pytest.approx(split.cluster / 400)
    with pytest.raises(ValueError, match="at least two of each"):
        components(np.zeros((1, 5)))


def test_it_claims_falsely_as_often_as_it_says():
    """300 comparisons of equal methods: a test of seeds alone, or of clusters alone, claims far more often."""
    random = np.random.default_rng(9)
    seeds, clusters, p_values = [], [], []
    for _ in range(300):
        shared = drawn(random, 1, 40, 0, 20, 0)
        first, second = (measured(shared + drawn(random, 3, 40, 0.04, 1.0, 0.5)) for _ in range(2))
        about = difference(first, second, paired=False)
        p_values.append(about.p())
        seeds.append([first.scores, second.scores])
        clusters.append(first.pseudo_values.mean(axis=0) - second.pseudo_values.mean(axis=0))
    # .05, and the risk of a thousandth either way
    assert 0.01 < np.mean(np.array(p_values) <= 0.05) < 0.095
    of_seeds, of_others = np.array(seeds).transpose(1, 0, 2)
    assert np.mean(stats.ttest_ind(of_seeds, of_others, axis=1, equal_var=False).pvalue <= 0.05) > 0.095
    assert np.mean(stats.ttest_1samp(np.array(clusters), 0, axis=1).pvalue <= 0.05) > 0.095


def test_a_mean_is_no_surer_than_its_parts():
    # two seeds that happen to agree, on clusters that they answer differently: nothing is left for the cluster
    values = np.array([[1.0, 0.0, 1.0, 0.0, 1.0, 0.2], [0.0, 1.0, 0.0, 1.0, 0.0, 1.1]])
    about, over_seeds = expected(measured(values)), mean(values.mean(axis=1).tolist())
    over_test_sets = jackknife_interval(values.mean(axis=0))
    assert about.se >= max(over_test_sets.se, over_seeds.sd / np.sqrt(2))
    for part in (over_seeds, over_test_sets):
        assert about.low <= part.low < part.high <= about.high
    assert about.se == pytest.approx(components(values).shares().se)
