"""Perplexity and accuracy of masked tokens."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from peftlab.scores.masked_scores import MaskedScores, rounded


def answers(count, seed=0):
    draw = random.Random(seed)
    for _ in range(count):
        masked = [draw.choice(["a", "b", None]) for _ in range(draw.randint(0, 6))]
        yield {
            "masked": masked,
            "predicted": [draw.choice("ab") for _ in masked],
            "log_probability": [None if one is None else rounded(-draw.expovariate(0.5)) for one in masked],
        }


def test_scores_are_those_of_all_tokens_together():
    scorer, rows = MaskedScores(), list(answers(100))
    tokens = [
        each
        for row in rows
        for each in zip(row["masked"], row["predicted"], row["log_probability"], strict=True)
        if each[0]
    ]
    scores = scorer.scores(scorer.total(rows))
    assert scores["perplexity"] == pytest.approx(math.exp(-sum(log for *_, log in tokens) / len(tokens)), rel=1e-6)
    assert scores["masked_accuracy"] == pytest.approx(sum(a == b for a, b, _ in tokens) / len(tokens), rel=1e-6)
    assert all(float(np.float32(value)) == value for value in scores.values())
    assert f"{scores['perplexity']:.4f}" in scorer.report(scorer.total(rows))


def test_the_order_of_the_answers_changes_no_bit():
    scorer, rows = MaskedScores(), list(answers(300))
    totals = {scorer.total(random.Random(seed).sample(rows, len(rows))).tobytes() for seed in range(5)}
    assert len(totals) == 1


def test_many_sums_at_once_are_those_one_by_one():
    scorer = MaskedScores()
    totals = np.stack([scorer.total(answers(20, seed)) for seed in range(5)])
    for name, values in scorer.batched(totals).items():
        assert values == pytest.approx([scorer.scores(total)[name] for total in totals], rel=1e-6)


def test_no_token_is_no_score_and_a_certain_error_is_finite():
    scorer = MaskedScores()
    assert scorer.scores(scorer.total([])) == {"perplexity": 1, "masked_accuracy": 0}
    hopeless = {"masked": ["a"], "predicted": ["b"], "log_probability": [-1e9]}
    assert math.isfinite(scorer.scores(scorer.total([hopeless]))["perplexity"])


@pytest.mark.parametrize("logs", [[0.5], ["x"], []])
def test_what_is_no_logarithm_is_refused(logs):
    with pytest.raises(ValueError):  # zip says it where lengths differ
        MaskedScores().total([{"masked": ["a"], "predicted": ["a"], "log_probability": logs}])


def test_a_model_that_diverged_has_no_perplexity():
    scorer = MaskedScores()
    diverged = {"masked": ["a"], "predicted": ["b"], "log_probability": [rounded(math.nan)]}
    total = scorer.total([*answers(3), diverged])
    assert math.isnan(scorer.scores(total)["perplexity"])
    assert "nan" in scorer.report(total)
    assert rounded(-math.inf) == -math.inf


def test_a_text_is_right_if_all_its_masked_tokens_are():
    for predicted, is_right in ((["a", "x", "c"], True), (["a", "x", "d"], False)):
        answer = {
            "gold": None,
            "predicted": predicted,
            "masked": ["a", None, "c"],
            "log_probability": [-0.1, None, -0.2],
        }
        assert MaskedScores().is_right(answer) is is_right
