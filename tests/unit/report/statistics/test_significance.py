"""Tests of differences: against scipy, statsmodels and loops, with the smallest p values that they can give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables

from peftlab.report.statistics.significance import (
    approximate_randomisation,
    mcnemar_test,
    permutation,
    sign_flip,
    welch,
)


def mean_difference(first, second, axis):
    return first.mean(axis) - second.mean(axis)


def test_sign_flips_as_scipy_has_them(cases):
    random = np.random.default_rng(0)
    for _ in cases:
        values = random.normal(random.normal(), size=random.integers(2, 8)).round(1)  # with ties
        expected = stats.permutation_test((values,), np.mean, permutation_type="samples").pvalue
        assert sign_flip(values).p == pytest.approx(expected, abs=1e-9)


def test_permutations_as_scipy_has_them(cases):
    random = np.random.default_rng(1)
    for _ in cases:
        # of equal numbers, as scipy doubles the smaller tail where the distribution is not symmetric
        number = random.integers(2, 5)
        first, second = random.normal(1, size=number), random.normal(size=number)
        expected = stats.permutation_test((first, second), mean_difference, permutation_type="independent").pvalue
        assert permutation(first, second).p == pytest.approx(expected, abs=1e-9)


def test_of_unequal_numbers_all_ways_to_deal_are_counted():
    found = permutation([5.0, 6.0], [0.0, 1.0, 2.0])
    assert (found.p, found.floor, found.permutations) == (0.1, 0.1, 10)


@pytest.mark.parametrize(
    ("test", "floor"),
    [
        (lambda: sign_flip([1.0, 2.0, 3.0]), 0.25),
        (lambda: sign_flip([0.1, 0.2, 0.3, 0.4, 0.5]), 0.0625),
        (lambda: sign_flip(np.arange(1.0, 7)), 0.03125),
        (lambda: permutation([4, 5, 6], [1, 2, 3]), 0.1),
        (lambda: permutation(range(5, 10), range(5)), 2 / 252),
        (lambda: permutation([4, 5, 6], [1, 2]), 0.1),
        (lambda: mcnemar_test([True] * 4, [False] * 4), 0.125),
    ],
)
def test_the_clearest_difference_reaches_the_floor_and_not_more(test, floor):
    found = test()
    assert (found.p, found.floor) == (pytest.approx(floor), pytest.approx(floor))
    assert found.exact


def test_many_seeds_are_permuted_at_random():
    random = np.random.default_rng(2)
    values = random.normal(0.4, size=30)
    found = sign_flip(values)
    assert (found.exact, found.permutations, found.floor) == (False, 9999, 1e-4)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    others = random.normal(size=30)
    found = permutation(values, others)
    assert (found.exact, found.floor) == (False, 1e-4)
    assert found.p == pytest.approx(welch(values, others).p, abs=0.02)


def test_welch_as_scipy_has_it(cases):
    random = np.random.default_rng(3)
    for _ in cases:
        first, second = random.normal(size=random.integers(2, 9)), random.normal(1, 3, random.integers(2, 9))
        expected = stats.ttest_ind(first, second, equal_var=False).pvalue
        assert welch(first, second).p == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="at least two"):
        welch([1], [2, 3])


def test_mcnemar_as_statsmodels_has_it(cases):
    random = np.random.default_rng(4)
    for _ in cases:
        first, second = random.random((2, 40)) < random.random((2, 1))
        table = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
        expected = contingency_tables.mcnemar(table, exact=True).pvalue
        assert mcnemar_test(first, second).p == pytest.approx(expected, abs=1e-9)


def test_mcnemar_refuses_clusters():
    assert mcnemar_test([True, False], [True, True], ["a", "b"]).p == 1
    with pytest.raises(ValueError, match=r"cluster 'a' has 2 examples.*approximate_randomisation"):
        mcnemar_test([True, False, True], [True, True, False], ["a", "b", "a"])
    with pytest.raises(ValueError, match="the same examples"):
        mcnemar_test([True], [True, False])


def test_swaps_of_clusters_one_by_one():
    random = np.random.default_rng(5)
    first, second = random.integers(0, 9, (2, 12, 2))

    def f1(totals):
        return 2 * totals[:, 0] / (2 * totals[:, 0] + totals[:, 1])

    found = approximate_randomisation(first, second, f1, draws=400, seed=6)
    swaps = np.random.default_rng(6).random((400, 12)) < 0.5
    apart = []
    for swap in swaps:
        one, other = first.copy(), second.copy()
        one[swap], other[swap] = second[swap], first[swap]
        apart.append(abs(f1(one.sum(axis=0)[None])[0] - f1(other.sum(axis=0)[None])[0]))
    measured = abs(f1(first.sum(axis=0)[None])[0] - f1(second.sum(axis=0)[None])[0])
    assert found.p == pytest.approx((sum(one >= measured - 1e-12 for one in apart) + 1) / 401)
    assert found.floor == pytest.approx(1 / 401)
    assert approximate_randomisation(first, first, f1, draws=50).p == 1
    with pytest.raises(ValueError, match="the same clusters"):
        approximate_randomisation(first, second[1:], f1)


def test_nothing_cannot_be_tested():
    for test in (lambda: sign_flip([]), lambda: permutation([], [1.0]), lambda: permutation([1.0], [])):
        with pytest.raises(ValueError, match=r"no difference|without a score"):
            test()
    assert math.isclose(sign_flip([0.0, 0.0]).p, 1)


def test_what_has_no_value_is_never_significant():
    """A correlation with equal answers is no number: of the answers themselves, or of some swaps of them."""
    constant = np.array([[1.0], [1.0], [1.0]])
    varied = np.array([[0.0], [5.0], [2.0]])

    def no_number_below(least):
        return lambda totals: np.where(totals[:, 0] < least, np.nan, totals[:, 0])

    assert approximate_randomisation(constant, varied, no_number_below(4), draws=99).p == 1
    few = approximate_randomisation(constant * 9, varied, no_number_below(0), draws=99).p
    assert few < approximate_randomisation(constant * 9, varied, no_number_below(8), draws=99).p
