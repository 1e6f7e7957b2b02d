"""The probability of improvement: against Mann and Whitney's U, and the equation that its limits solve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from peftlab.report.statistics.improvement import probability_of_improvement


def test_it_is_u_over_the_number_of_pairs(cases):
    random = np.random.default_rng(0)
    for _ in cases:
        n, m = (int(number) for number in random.integers(2, 9, 2))
        first, second = random.normal(size=n).round(1), random.normal(0.5, size=m).round(1)
        found = probability_of_improvement(first, second, level=0.9)
        assert found.value == pytest.approx(stats.mannwhitneyu(first, second).statistic / (n * m), abs=1e-9)
        for limit in (found.low, found.high):
            extra = (n + m) / 2 - 1
            spread = limit * (1 - limit) * (1 + extra * (1 - limit) / (2 - limit) + extra * limit / (1 + limit))
            reach = stats.norm.ppf(0.95) * np.sqrt(spread / (n * m))
            assert abs(found.value - limit) == pytest.approx(reach, abs=1e-9)
        assert found.low <= found.value <= found.high


def test_three_wins_of_three_are_not_certain():
    found = probability_of_improvement([4, 5, 6], [1, 2, 3])
    assert (found.value, found.high) == (1, 1)
    assert 0.4 < found.low < 0.6
    mirrored = probability_of_improvement([4, 5, 6], [1, 2, 3], lower_is_better=True)
    assert (mirrored.low, mirrored.high) == pytest.approx((0, 1 - found.low))
    with pytest.raises(ValueError, match="without a score"):
        probability_of_improvement([], [1])
