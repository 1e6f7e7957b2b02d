"""Gaps between groups of rows that meet the same columns: names in sentences."""

from __future__ import annotations

import math

import numpy as np
import pytest

from peftlab.report.statistics.crossed_gap import crossed_gap


def drawn(random, groups, rows, columns, of_row=0.1, of_column=0.2, of_both=0.05, rest=0.2):
    """Return values without a gap: each group answers the columns in its own way, `of_both`."""
    own = random.normal(0, of_both, (groups, 1, columns))
    values = random.normal(0, of_row, (groups, rows, 1)) + random.normal(0, of_column, columns) + own
    values = values + random.normal(0, rest, (groups, rows, columns))
    return values.reshape(groups * rows, columns), [f"g{n}" for n in range(groups) for _ in range(rows)]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("groups", "most"), [(2, 0.09), (5, 0.09)])
def test_equal_groups_rarely_differ(groups, most):
    """With rows and columns drawn anew each time; over rows alone, equal groups differ far more often."""
    random = np.random.default_rng(0)
    p, alone = [], []
    for n in range(300):
        gap = crossed_gap(*drawn(random, groups, 12, 15, of_row=0.02, of_both=0.15), draws=99, seed=n)
        p.append(gap.p)
        alone.append(gap.p_rows)
        assert (gap.p < 0.05) == (gap.low > 0)
    assert np.mean(np.less(p, 0.05)) <= most
    assert np.mean(np.less(alone, 0.05)) > 0.12


def test_the_standard_error_is_that_of_a_bootstrap_of_rows_and_columns():
    """The pigeonhole bootstrap (Owen 2007) draws rows in each group and columns, and errs a little on the safe side."""
    random = np.random.default_rng(1)
    values, groups = drawn(random, 2, 40, 50)
    values[:40] += 0.5
    first, second = values[:40], values[40:]
    gap = crossed_gap(values, groups)
    replicates = []
    for _ in range(1000):
        columns = random.integers(0, 50, 50)
        means = [one[random.integers(0, 40, 40)][:, columns].mean() for one in (first, second)]
        replicates.append(means[0] - means[1])
    assert (gap.largest, gap.smallest) == ("g0", "g1")
    assert gap.value == pytest.approx(first.mean() - second.mean())
    assert 0.85 < gap.se / np.std(replicates) < 1.05
    assert gap.pairing < 0.5  # as the columns are hard for both


def test_variances_are_those_of_a_mixed_model():
    random = np.random.default_rng(2)
    parts = [crossed_gap(*drawn(random, 2, 30, 30, of_both=0.0), draws=9).variances for _ in range(20)]
    for part, expected in {"rows": 0.1, "columns": 0.2, "rest": 0.2}.items():
        assert math.sqrt(np.mean([one[part] for one in parts])) == pytest.approx(expected, rel=0.1)


def test_a_group_that_stands_out_is_found_and_the_gap_debiased():
    random = np.random.default_rng(3)
    values, groups = drawn(random, 5, 20, 30, of_both=0.0)
    values[np.array(groups) == "g3"] -= 0.3
    gap = crossed_gap(values, groups)
    assert gap.smallest == "g3"
    assert gap.p < 0.01
    assert gap.p_rows == 1 / 2000
    assert gap.value - gap.expected < gap.debiased < gap.value
    least = min(gap.groups, key=lambda one: one.p)
    assert (least.group, least.from_rest.value < -0.2) == ("g3", True)
    assert [one.mean.value for one in gap.groups] == sorted((one.mean.value for one in gap.groups), reverse=True)


def test_where_nothing_varies_nothing_is_claimed():
    gap = crossed_gap(np.ones((8, 5)), ["a"] * 4 + ["b"] * 4, draws=99)
    assert (gap.value, gap.p, gap.p_rows, gap.debiased) == (0, 1, 1, 0)


def test_no_interval_goes_beyond_what_there_can_be():
    random = np.random.default_rng(4)
    values = (random.random((8, 6)) < np.repeat([0.99, 0.2], 4)[:, None]).astype(float)
    gap = crossed_gap(values, ["a"] * 4 + ["b"] * 4, (0, 1), draws=99)
    assert gap.high == 1
    assert max(one.mean.high for one in gap.groups) == 1
    assert crossed_gap(values, ["a"] * 4 + ["b"] * 4, draws=99).high > 1


def test_too_few_of_anything_are_refused():
    for values, groups in (
        (np.ones((3, 5)), ["a", "a", "b"]),
        (np.ones((4, 1)), list("aabb")),
        (np.ones((4, 5)), ["a"] * 4),
    ):
        with pytest.raises(ValueError, match="need two of everything"):
            crossed_gap(values, groups)
