"""Greedy substitution against a bag of words, whose losses are known."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from peftlab.use.robustness.greedy import Attacked, Greedy, run_together
from peftlab.use.robustness.victim import Judged

WEIGHTS = {"great": 3.0, "good": 2.0, "fine": 1.5, "poor": -2.0, "bad": -4.0, "odd": -1.0}
SUBSTITUTES = {"great": ["grand", "fine", "odd"], "good": ["fine", "poor", "bad"], "day": ["time"]}


def judge(examples):
    """Judge texts of the label "good", whose probability is that of a logistic regression on their words."""
    judged = []
    for words in examples:
        score = sum(WEIGHTS.get(word, 0.0) for word in words)
        judged.append(Judged({"text": " ".join(words)}, math.log1p(math.exp(-score)), score > 0))
    return judged


def make(words):
    return [word for word in words if word is not None]


def attacks(texts, greedy, free=None, judge=judge) -> list[Attacked]:
    words = [text.split() for text in texts]
    searches = [
        greedy.search(
            of_text, range(len(of_text)) if free is None else free, make, lambda word: SUBSTITUTES.get(word, [])
        )
        for of_text in words
    ]
    return [end for _, end in sorted(run_together(searches, judge, at_once=2))]


def test_the_most_important_word_is_replaced_first_and_the_first_substitute_that_breaks_ends_it():
    (one,) = attacks(["a great and good day"], Greedy())
    assert one.broken
    # great -> odd leaves 1.0, fine 0.5, and good -> poor is the first that breaks it, though bad is worse
    assert one.changed == {1: "odd", 3: "poor"}
    assert one.worst.answer["text"] == "a odd and poor day"
    assert one.queries == 1 + 3 + 3 + 3


def test_the_budget_is_kept_and_the_search_ends():
    long = " ".join(["good"] * 1000)
    for most in (1, 2, 5, 9, 300):
        seen = Counter()

        def counted(examples, seen=seen):
            seen["queries"] += len(examples)
            return judge(examples)

        (one,) = attacks([long], Greedy(max_queries=most), judge=counted)
        assert seen["queries"] == one.queries <= most
        assert not one.broken


def test_the_share_of_changed_words_is_kept():
    (one,) = attacks(["great good day is good"], Greedy(max_changed=0.4))
    assert len(one.changed) <= 2
    (one,) = attacks(["great good day is good"], Greedy(max_changed=0.01))
    assert len(one.changed) == 1
    (one,) = attacks([" ".join(["good"] * 100)], Greedy(max_changed=0.29, max_queries=1000))
    assert len(one.changed) == 29


def test_protected_words_wrong_answers_and_words_without_substitutes_are_left_alone():
    protected, wrong, without = (
        attacks(["good day"], Greedy(), free=[1])[0],
        *attacks(["bad day", "fine weather"], Greedy()),
    )
    assert protected.changed == {}
    assert (wrong.queries, wrong.changed, wrong.broken) == (1, {}, False)
    assert (without.queries, without.changed, without.broken) == (1, {}, False)


def test_searches_side_by_side_are_those_alone():
    texts = ["good day", "great day", "bad day", "a good and fine day", "fine", "great good great"]
    together = attacks(texts, Greedy(max_queries=12))
    assert together == [attacks([text], Greedy(max_queries=12))[0] for text in texts]
    assert [one.broken for one in together] == pytest.approx([True, True, False, True, False, True])
