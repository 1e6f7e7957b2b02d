"""Paired comparison: against scipy, a hand-made interval, and the cases in which nothing differs."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from peftlab.scores.class_scores import ClassScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.paired import Difference, counts_of, difference, holm, holm_of_known, mcnemar

BINARY = ClassScores(["neg", "pos"])


def accuracy(total: np.ndarray) -> float:
    return BINARY.scores(total)["accuracy"]


def answers(gold: str, predicted: str) -> list[dict[str, str]]:
    """Return answers whose labels begin with these letters."""
    names = {"n": "neg", "p": "pos"}
    return [{"gold": names[g], "predicted": names[p]} for g, p in zip(gold, predicted, strict=True)]


@pytest.mark.parametrize(("broken", "mended"), [(0, 0), (1, 0), (5, 5), (12, 3), (3, 12), (40, 70), (900, 1000)])
def test_mcnemar_is_the_exact_binomial_test(broken, mended):
    expected = binomtest(broken, broken + mended, 0.5).pvalue if broken + mended else 1.0
    assert mcnemar(broken, mended) == pytest.approx(expected, rel=1e-9)


def test_holm_steps_down_and_keeps_the_order():
    # by hand: 0.01 * 4, 0.02 * 3, 0.03 * 2 (at least the one before), 0.9 * 1
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm_of_known([0.03, None, 0.01]) == [0.03, None, 0.02]


@pytest.mark.slow
def test_holm_as_statsmodels_has_it(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)  # statsmodels searches for garbage each time: seconds in a long suite
    random = np.random.default_rng(2)
    for _ in range(1000):
        values = random.random(random.integers(1, 12)).round(2).tolist()
        assert holm(values) == pytest.approx(multipletests(values, method="holm")[1], abs=1e-9)


@pytest.mark.slow
def test_the_interval_is_that_of_the_paired_differences():
    random = np.random.default_rng(1)
    first = random.random(400) < 0.8
    second = np.where(random.random(400) < 0.9, first, ~first)  # goes along with the first
    one, other = (counts_of(BINARY, answers("p" * 400, ["np"[int(hit)] for hit in hits])) for hits in (first, second))
    found = difference(accuracy, one, other)
    apart = first.astype(float) - second
    assert found.value == pytest.approx(apart.mean(), abs=1e-6)
    half = 1.96 * apart.std() / 20
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    unpaired = 1.96 * np.sqrt(first.var() + second.var()) / 20
    assert half < 0.7 * unpaired
    assert difference(accuracy, one, other) == found


@pytest.mark.slow
def test_of_a_single_example_nothing_follows_for_others():
    right, wrong = (counts_of(BINARY, answers("p", predicted)) for predicted in "pn")
    assert difference(accuracy, right, wrong) == Difference(1, None, None)


def test_equal_answers_do_not_differ_and_other_examples_are_refused():
    counts = counts_of(BINARY, answers("npnp", "nnpp"))
    assert difference(accuracy, counts, counts) == difference(accuracy, counts, counts, seed=1)
    assert difference(accuracy, counts, counts).high == 0
    for other in (counts[:3], counts[:0]):
        with pytest.raises(ValueError, match="the same examples"):
            difference(accuracy, other[:0] if not len(other) else counts, other)


def test_an_answer_is_right_if_it_scores_as_its_gold():
    assert [BINARY.is_right(answer) for answer in answers("npnp", "nnpp")] == [True, False, False, True]
    scorer = EntityScores(["LOC", "PER"])
    gold = ["B-PER", "I-PER", "O"]
    for predicted, expected in {
        ("B-PER", "I-PER", "O"): True,
        ("I-PER", "I-PER", "O"): True,  # conlleval reads the same entity
        ("B-PER", "O", "O"): False,
        ("B-LOC", "I-LOC", "O"): False,
        ("B-PER", "I-PER", "B-LOC"): False,
    }.items():
        assert scorer.is_right({"gold": gold, "predicted": list(predicted)}) is expected
