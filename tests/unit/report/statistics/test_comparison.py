"""Comparisons of methods: what is claimed, when, and what stands beside it."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from peftlab.report.statistics.comparison import compare, compare_all, equivalence
from peftlab.report.statistics.crossed import difference, expected
from peftlab.report.statistics.measured import Measured

CLUSTERS = 60


def method(name, score, seeds=5, seed_sd=0.002, own=0.02, start=0):
    """Return a method whose runs score about `score` on a test set that is the same for all."""
    shared = np.random.default_rng(0).normal(0, 0.1, CLUSTERS)
    random = np.random.default_rng([start, *map(ord, name)])
    effects = random.normal(0, seed_sd, (seeds, 1)) + random.normal(0, own, (seeds, CLUSTERS))
    values = score + shared - shared.mean() + effects - effects.mean()
    return Measured(name, tuple(range(start, start + seeds)), values.mean(axis=1), values)


FULL = method("full", 0.9)


@pytest.mark.parametrize(
    ("first", "direction", "margin", "says"),
    [
        (method("lora", 0.93), "max", None, "better"),
        (method("lora", 0.87), "max", None, "worse"),
        (method("lora", 0.93), "min", None, "worse"),
        (method("lora", 0.87), "min", None, "better"),
        (method("lora", 0.901), "max", None, "not told apart"),
        (method("lora", 0.901), "max", 0.02, "tie"),
        (method("lora", 0.901), "max", 0.002, "not told apart"),
        (method("lora", 0.93), "max", 0.05, "tie"),  # certain, but too small to matter
        (method("lora", 0.93), "max", 0.01, "better"),
        (method("lora", 0.93, seeds=2), "max", None, "no claim"),
        (method("lora", 0.5, seeds=1), "max", 0.9, "no claim"),
        (Measured.of_scores("lora", {0: 0.8, 1: 0.801, 2: 0.802}), "max", None, "worse"),
        (FULL, "max", 0.1, "tie"),
    ],
)
def test_verdicts(first, direction, margin, says):
    comparison = compare(first, FULL, direction, margin)
    assert comparison.verdict.says == says
    json.dumps(asdict(comparison), allow_nan=False)


def test_a_verdict_on_scores_alone_says_that_the_test_set_is_left_out():
    comparison = compare(Measured.of_scores("lora", {0: 0.8, 1: 0.801, 2: 0.802}), FULL)
    assert comparison.difference.covers == "seeds"
    assert comparison.verdict.because.endswith("on this test set only, as its uncertainty is unknown")
    assert (comparison.split, comparison.needed) == (None, None)


def test_what_never_varies_is_not_told_apart():
    first, second = (
        Measured.of_scores(name, dict.fromkeys(range(5), score)) for name, score in (("a", 0.9), ("b", 0.8))
    )
    comparison = compare(first, second, margin=0.2)
    assert comparison.verdict.says == "not told apart"
    assert (comparison.p, comparison.equivalence_p, comparison.detectable) == (1, 1, None)


def test_what_stands_beside_the_verdict():
    comparison = compare(method("lora", 0.93), FULL, margin=0.01)
    assert [test.name for test in comparison.tests] == [
        "Welch's t over seeds",
        "permutation of seeds",
        "sign flip over seeds",
    ]
    assert comparison.tests[2].floor == 0.0625
    assert comparison.improvement.value == 1
    assert comparison.dominance.false_wins > 0.1
    assert comparison.split.clusters == CLUSTERS
    assert comparison.needed.effect == 0.01
    other_seeds = compare(method("lora", 0.93, start=10), FULL)
    assert [test.name for test in other_seeds.tests] == ["Welch's t over seeds", "permutation of seeds"]
    assert not other_seeds.paired


def test_the_difference_is_the_first_minus_the_second():
    lora = method("lora", 0.93)
    comparison = compare(lora, FULL)
    assert comparison.difference == difference(lora, FULL, paired=False)
    assert compare(lora, FULL, paired=True).difference == difference(lora, FULL, paired=True)
    with pytest.raises(ValueError, match="no pairs"):
        compare(method("lora", 0.93, seeds=4), FULL, paired=True)


@pytest.mark.slow
def test_a_family_is_adjusted_together_and_without_those_of_whom_nothing_is_claimed():
    methods = [FULL, *(method(name, 0.9 + 0.004 * place) for place, name in enumerate("abcd"))]
    alone = [compare(one, FULL).p for one in methods[1:]]
    together = compare_all([*methods, method("e", 0.99, seeds=2)], "full")
    assert [one.first for one in together] == ["a", "b", "c", "d", "e"]
    adjusted = multipletests(alone, method="holm")[1]
    assert [one.p_adjusted for one in together[:4]] == pytest.approx(adjusted, abs=1e-12)
    assert {one.family for one in together[:4]} == {4}
    assert (together[4].family, together[4].verdict.says) == (1, "no claim")


def test_equivalence_as_statsmodels_has_it(cases):
    random = np.random.default_rng(1)
    for _ in cases:
        scores, margin = random.normal(0.1, size=random.integers(3, 12)), random.uniform(0.1, 2)
        about = expected(Measured.of_scores("m", dict(enumerate(scores))), level=0.9)
        p = DescrStatsW(scores).ttost_mean(-margin, margin)[0]
        assert equivalence(about, margin) == pytest.approx(p, abs=1e-9)
        assert (equivalence(about, margin) < 0.05) == (-margin < about.low and about.high < margin)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare(FULL, FULL, margin=0), "margin is 0"),
        (lambda: compare_all([FULL], "lora"), "no method is named 'lora'; there are full"),
    ],
)
def test_what_cannot_be_compared(call, message):
    with pytest.raises(ValueError, match=message):
        call()
