"""Gaps between groups: the closed form of what equal groups show, all permutations in a loop, intervals, sizes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from peftlab.report.statistics.bootstrap import jackknife_interval
from peftlab.report.statistics.gaps import gap
from peftlab.report.statistics.measured import score_of
from peftlab.report.statistics.measures import Ranking, Ratio, Sums, calibration_error
from peftlab.scores.numbers import NumberScores
from peftlab.scores.paired import counts_of

D = {2: 1.128, 5: 2.326, 10: 3.078}
"""The expected range of standard normal numbers (Tippett 1925)."""


def accuracy(right) -> Ratio:
    return Ratio("accuracy", np.asarray(right, float), np.ones(len(right)))


def names(number: int) -> list[str]:
    return [f"g{one}" for one in range(number)]


@pytest.mark.parametrize("number", D)
def test_equal_groups_show_the_gap_of_the_closed_form(number):
    groups = np.repeat(np.arange(number), 40)
    right = np.tile(np.arange(40) % 5 > 0, number)  # .8 in each
    one = gap(accuracy(right), groups, names(number), np.arange(len(groups)), draws=7999)
    assert one.value == one.debiased == 0
    assert one.p == 1
    assert one.expected == pytest.approx(D[number] * math.sqrt(0.8 * 0.2 / 40), rel=0.04)  # four errors of the draws
    assert one.low == 0 < one.high


def test_all_permutations_of_few_units():
    right, groups = np.array([1, 1, 1, 0, 1, 0, 0, 0]), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    one = gap(accuracy(right), groups, names(2), np.arange(8), fewest=1)

    def statistic(first):
        rates = [right[list(own)] for own in (first, sorted(set(range(8)) - set(first)))]
        shrunk = [(own.sum() + 1) / (len(own) + 2) for own in rates]
        se = math.sqrt(sum(p * (1 - p) / 6 for p in shrunk))
        return abs(rates[0].mean() - rates[1].mean()) / se

    every = [statistic(first) for first in itertools.combinations(range(8), 4)]
    assert one.p == pytest.approx(np.mean(np.array(every) >= statistic((0, 1, 2, 3)) - 1e-9))
    assert one.floor == 1 / 70
    assert one.test.endswith("all")


def test_a_gap_that_is_there():
    groups = np.repeat([0, 1, 2], 200)
    right = np.concatenate([np.arange(200) % 10 < share for share in (9, 9, 6)])
    one = gap(accuracy(right), groups, names(3), np.arange(600))
    assert (one.value, one.deviation) == pytest.approx((0.3, 0.2))
    assert one.low < 0.3 < one.high
    assert 0.28 < one.debiased < 0.3
    assert one.detectable < 0.3
    assert one.p == one.floor == 1 / 2000
    pairs = {(pair.first, pair.second): pair for pair in one.pairs}
    assert pairs["g0", "g1"].p == 1
    assert pairs["g1", "g2"].low > 0.15
    assert [(each.name, each.size) for each in one.groups] == [("g0", 200), ("g1", 200), ("g2", 200)]
    assert one.groups[2].low < 0.6 < one.groups[2].high


@pytest.mark.slow
def test_what_can_be_detected_grows_with_the_family_and_falls_with_the_size():
    random = np.random.default_rng(0)
    detectable = {}
    for size, family in ((400, 1), (400, 10), (1600, 1)):
        groups = np.repeat([0, 1], size)
        right = random.random(2 * size) < 0.8
        one = gap(accuracy(right), groups, names(2), np.arange(2 * size), family=family)
        detectable[size, family] = one.detectable
    # two-sided at .05 with probability .8, the textbook's 2.80 standard errors
    assert detectable[400, 1] == pytest.approx(2.80 * math.sqrt(2 * 0.8 * 0.2 / 400), rel=0.1)
    assert detectable[400, 10] == pytest.approx(3.65 * math.sqrt(2 * 0.8 * 0.2 / 400), rel=0.1)
    assert detectable[1600, 1] == pytest.approx(detectable[400, 1] / 2, rel=0.1)


def test_groups_without_an_error_are_not_free_of_uncertainty():
    one = gap(accuracy(np.ones(60)), np.repeat([0, 1], 30), names(2), np.arange(60))
    assert (one.value, one.p) == (0, 1)
    assert one.high > 0
    assert one.detectable > 0.05


def test_the_interval_of_a_group_is_over_the_examples_that_count():
    """No miss among 20 of a label says little, however many examples of other labels there are."""
    groups, gold = np.repeat([0, 1], 500), np.tile(np.arange(500) < 20, 2)
    missed = gold & (np.arange(1000) >= 510)
    miss_rate = Ratio("fnr", missed.astype(float), gold.astype(float))
    scores = np.where(gold, 2.0, 1.0)  # all positives above all others
    ranking = Ranking("bnsp_auc", scores, gold, "bnsp")
    for measure, value in ((miss_rate, 0.0), (ranking, 1.0)):
        one = gap(measure, groups, names(2), np.arange(1000), draws=99).groups[0]
        wilson = jackknife_interval(np.full(20, value), bounded=True)
        assert (one.size, one.value) == (20, value)
        assert (one.low, one.high) == pytest.approx((wilson.low, wilson.high))


def test_small_groups_are_left_out_by_the_examples_that_count():
    groups = np.repeat([0, 1, 2], [50, 50, 10])
    gold = np.concatenate([np.ones(50), np.arange(50) < 15, np.ones(10)])
    measure = Ratio("fnr", np.zeros(110), gold)
    assert gap(measure, groups, names(3), np.arange(110)) is None
    one = gap(measure, groups, names(3), np.arange(110), fewest=15)
    assert one.left_out == {"g2": 10}
    assert [each.size for each in one.groups] == [50, 15]


def test_documents_of_one_group_are_dealt_out_whole():
    """Equal documents of ten sentences are ten times fewer units: what looks certain by sentences is not."""
    clusters = np.repeat(np.arange(12), 10)
    groups = clusters % 2
    right = np.isin(clusters, (0, 2, 4, 6, 1, 3))  # whole documents right or wrong: 4 of 6 and 2 of 6
    whole = gap(accuracy(right), groups, names(2), clusters)
    sentences = gap(accuracy(right), groups, names(2), np.arange(120))
    assert "over 12 units, all" in whole.test
    assert sentences.p < 0.01 < 0.3 < whole.p


def test_groups_that_share_documents_are_tested_by_signs():
    random = np.random.default_rng(0)
    clusters, groups = np.repeat(np.arange(40), 10), random.integers(0, 2, 400)
    apart = random.random(400) < np.where(groups == 0, 0.9, 0.6)
    one = gap(accuracy(apart), groups, names(2), clusters)
    assert one.test.startswith("sign flips of 40 clusters")
    assert one.p < 0.01
    assert 0 < one.low < one.value < one.high
    assert gap(accuracy(random.random(400) < 0.8), groups, names(2), clusters).p > 0.05
    untested = gap(calibration_error("ece", random.random(400), apart), groups, names(2), clusters)
    assert (untested.p, untested.low, untested.detectable) == (None, None, None)
    assert untested.test.startswith("none: groups share clusters")


def test_what_has_no_group_is_not_dealt_out():
    """Rows of no group change nothing for a rate."""
    random = np.random.default_rng(0)
    groups, right = np.repeat([0, 1, -1], 60), random.random(180) < 0.7
    with_rest = gap(accuracy(right), groups, names(2), np.arange(180))
    alone = gap(accuracy(right[:120]), groups[:120], names(2), np.arange(120))
    assert (with_rest.value, with_rest.p, with_rest.groups) == (alone.value, alone.p, alone.groups)


@pytest.mark.slow
def test_equal_groups_are_seldom_said_to_differ():
    random, groups = np.random.default_rng(0), np.repeat([0, 1, 2], [20, 60, 120])
    p_values = [
        gap(accuracy(random.random(200) < 0.9), groups, names(3), np.arange(200), draws=199, seed=seed).p
        for seed in range(100)
    ]
    assert sum(p <= 0.05 for p in p_values) <= 10  # a test that holds its level exceeds that once in 90 times


def test_groups_in_which_the_metric_is_no_number_are_left_out():
    """A correlation has no value where a group's answers are all the same: that is no gap."""
    random = np.random.default_rng(0)
    gold = random.standard_normal(90)
    predicted = np.where(np.arange(90) < 60, gold + random.standard_normal(90), 1.0)
    answers = [{"gold": x, "predicted": y} for x, y in zip(gold.tolist(), predicted.tolist(), strict=True)]
    measure = Sums("pearson", counts_of(NumberScores(), answers), score_of(NumberScores(), "pearson"), share=False)
    groups = np.repeat([0, 1, 2], 30)
    one = gap(measure, groups, names(3), np.arange(90), draws=199)
    assert one.left_out == {"g2": 30}
    assert [each.name for each in one.groups] == ["g0", "g1"]
    assert math.isfinite(one.value)
    assert gap(measure, groups - 1, names(2), np.arange(90)) is None
