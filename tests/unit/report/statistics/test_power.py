"""Power and what it takes: against statsmodels, and that the answers are the smallest that suffice."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower, TTestPower

from peftlab.report.statistics.crossed import Components
from peftlab.report.statistics.power import design, minimum_detectable_effect, needed, power


def test_as_statsmodels_has_it(cases):
    random = np.random.default_rng(0)
    for _ in cases:
        effect, number, level = random.uniform(0.1, 2), int(random.integers(3, 30)), random.uniform(0.01, 0.2)
        designs = [
            (TTestPower().power(effect, number, level), 1 / np.sqrt(number), number - 1),
            (TTestIndPower().power(effect, number, level), np.sqrt(2 / number), 2 * number - 2),
        ]
        for expected, se, df in designs:
            if not np.isnan(expected):  # which theirs is where the wrong tail is tiny
                assert power(-effect, se, df, level) == pytest.approx(expected, abs=1e-9)


def test_the_minimum_detectable_effect_is_found_as_often_as_asked(cases):
    random = np.random.default_rng(1)
    for _ in cases:
        se, df, aim = random.exponential(), random.uniform(1.5, 200), random.uniform(0.5, 0.95)
        effect = minimum_detectable_effect(se, df, 0.05, aim)
        assert power(effect, se, df) == pytest.approx(aim, abs=1e-9)
    assert minimum_detectable_effect(0.0, 4) == 0
    assert power(30, 1, 4.2) == 1


def test_as_many_as_suffice_and_no_more():
    split = Components(seed=1e-4, cluster=0.01, rest=0.02, seeds=5, clusters=200)
    found = needed(split, effect=0.025)
    assert found.seeds is not None
    assert found.clusters is not None
    for seeds, clusters, suffices in (
        (found.seeds, 200, True),
        (found.seeds - 1, 200, False),
        (5, found.clusters, True),
        (5, found.clusters - 1, False),
    ):
        assert (minimum_detectable_effect(*design(split, seeds, clusters, paired=False)) <= 0.025) is suffices


def test_seeds_do_not_make_up_for_a_small_test_set_nor_the_other_way_round():
    found = needed(Components(seed=1e-4, cluster=0.01, rest=0.02, seeds=3, clusters=50), effect=0.01)
    assert (found.seeds, found.clusters) == (None, None)
    found = needed(Components(seed=1e-6, cluster=0.04, rest=0.02, seeds=3, clusters=50), effect=0.01)
    assert found.seeds is None
    assert found.clusters is not None
    with pytest.raises(ValueError, match="effect of 0"):
        needed(Components(1, 1, 1, 3, 3), effect=0)


def test_the_design_of_pairs_has_the_degrees_of_freedom_of_the_seeds():
    only_seeds = Components(seed=0.01, cluster=0, rest=0, seeds=5, clusters=100)
    assert design(only_seeds, 5, 100, paired=True) == pytest.approx((np.sqrt(0.002), 4))
    # unpaired, of Welch's degrees of freedom, which vary from 4 to 8
    assert design(only_seeds, 5, 100, paired=False)[1] == pytest.approx(2 * 5 * 4 / 6)
    assert design(Components(0, 0, 0, 5, 100), 5, 100, paired=True) == (0, 4)
