"""The scores of pairs of answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from peftlab.scores.preference_scores import PreferenceScores

PAIRS = [(0.5, 0.25), (-1.0, -0.5), (0.125, 0.125), (2.0, -1.0)]


def answers(pairs):
    return [{"rewards": {"chosen": chosen, "rejected": rejected}} for chosen, rejected in pairs]


def test_the_scores_of_pairs():
    scorer = PreferenceScores()
    details = scorer.details(scorer.total(answers(PAIRS)))
    assert details == {
        "accuracy": 2.5 / 4,  # a tie is half right
        "margin": sum(chosen - rejected for chosen, rejected in PAIRS) / 4,
        "chosen_reward": sum(chosen for chosen, _ in PAIRS) / 4,
        "rejected_reward": sum(rejected for _, rejected in PAIRS) / 4,
    }
    assert scorer.scores(np.zeros(4)) == {"accuracy": 0, "margin": 0}
    assert "62.50 % of 4 pairs" in scorer.report(scorer.total(answers(PAIRS)))
    assert type(PreferenceScores.named(scorer.name, [])) is PreferenceScores


def test_rewards_that_are_no_numbers():
    scorer = PreferenceScores()
    scores = scorer.scores(scorer.total(answers([(math.nan, 0.0), (1.0, 0.0)])))
    assert scores["accuracy"] == 0.75
    assert math.isnan(scores["margin"])
    for rewards in ({}, {"chosen": 1.0}, {"chosen": 1.0, "rejected": "0"}):
        with pytest.raises(ValueError, match="rewards has no number for each"):
            scorer.counts({"rewards": rewards})


def test_pairs_without_rewards_do_not_count():
    scorer = PreferenceScores()
    assert (scorer.total([*answers(PAIRS), {"rewards": None}]) == scorer.total(answers(PAIRS))).all()


def test_a_pair_is_right_if_the_chosen_answer_has_the_larger_reward():
    rewards = [
        {"chosen": 1.0, "rejected": 0.5},
        {"chosen": 0.5, "rejected": 1.0},
        {"chosen": 0.5, "rejected": 0.5},
        None,
    ]
    right = [PreferenceScores().is_right({"gold": 0, "predicted": 1, "rewards": each}) for each in rewards]
    assert right == [True, False, False, False]
