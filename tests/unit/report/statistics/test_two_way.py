"""Draws and patterns together: against Student's interval where there is one factor, and by simulation where there are
two.
"""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.report.statistics.means import mean
from peftlab.report.statistics.two_way import crossed, paired_crossed


def table(random, rows, columns, row=1.0, column=1.0, rest=1.0):
    """Return effects of these standard deviations around 0, shape (rows, columns)."""
    return (
        row * random.normal(size=(rows, 1))
        + column * random.normal(size=(1, columns))
        + rest * random.normal(size=(rows, columns))
    )


def test_parts_by_hand():
    # rows differ by 4, columns by 2, and nothing is left: the mean squares are 8 and 2
    found = crossed(np.array([[1.0, 3.0], [5.0, 7.0]]))
    assert found.value == 4
    assert (found.rows_sd, found.columns_sd, found.rest_sd) == pytest.approx((8**0.5, 2**0.5, 0))
    assert found.se == pytest.approx((8 / 2 + 2 / 2) ** 0.5)
    assert found.low < 4 < found.high


@pytest.mark.parametrize("shape", [(12, 1), (1, 12)])
def test_one_factor_is_nearly_students_interval(shape):
    values = np.random.default_rng(0).normal(size=12)
    found, expected = crossed(values.reshape(shape)), mean(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.1)
    assert found.rest_sd is None
    assert [found.rows_sd, found.columns_sd].count(None) == 1


@pytest.mark.slow
@pytest.mark.parametrize("parts", [(1, 1, 1), (2, 0.3, 0.3), (0.3, 2, 0.3)])
def test_other_draws_and_other_patterns_are_covered(parts):
    random, tables = np.random.default_rng(1), 300
    both = alone = 0
    for seed in range(tables):
        values = table(random, 5, 4, *parts)
        found = crossed(values, resamples=300, seed=seed)
        one = mean(values.ravel())  # as if the cells were independent
        both += found.low <= 0 <= found.high
        alone += one.low <= 0 <= one.high
    assert both / tables >= 0.91  # the standard deviation of this share is 0.013
    assert alone / tables < 0.75


def test_what_is_hard_for_both_cancels_out():
    random = np.random.default_rng(2)
    hard = table(random, 6, 5, 3.0, 3.0, 0.0)
    same = paired_crossed(hard + 0.5, hard)
    assert (same.value, same.low, same.high) == pytest.approx((0.5, 0.5, 0.5))
    apart = paired_crossed(hard + 0.5 + table(random, 6, 5, 0.1, 0.1, 0.1), hard)
    assert apart.low > 0
    assert apart.p() < 0.05 < paired_crossed(hard + 0.5, hard[::-1]).p()


@pytest.mark.slow
def test_false_claims_are_as_rare_as_stated():
    random = np.random.default_rng(3)
    claims = 0
    for seed in range(300):
        hard = table(random, 5, 4, 2.0, 2.0, 0.0)
        first, second = (hard + table(random, 5, 4, 0.5, 0.5, 1.0) for _ in range(2))
        found = paired_crossed(first, second, resamples=300, seed=seed)
        claims += not found.low <= 0 <= found.high
    assert claims / 300 <= 0.08


def test_a_method_without_patterns_is_compared_with_each_of_them():
    random = np.random.default_rng(4)
    prompts, head = table(random, 4, 3), table(random, 4, 1)
    found = paired_crossed(prompts, head)
    assert found.value == pytest.approx(prompts.mean() - head.mean())
    assert found.shape == (4, 3)


def test_one_value_has_no_interval_and_gaps_are_refused():
    alone = crossed(np.array([[0.5]]))
    assert (alone.low, alone.high, alone.se, alone.p()) == (None, None, None, None)
    for values in ([[0.5, np.nan]], [0.5, 0.6], np.empty((0, 2))):
        with pytest.raises(ValueError, match="without gaps"):
            crossed(np.asarray(values))
    with pytest.raises(ValueError, match="the same rows, columns"):
        paired_crossed(np.zeros((3, 2)), np.zeros((4, 2)))


def test_equal_values_claim_nothing():
    found = crossed(np.full((3, 3), 0.7))
    assert (found.low, found.high, found.p()) == (found.value, found.value, 1.0)
    assert crossed(np.eye(3), seed=1) == crossed(np.eye(3), seed=1)
