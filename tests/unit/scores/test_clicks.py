"""Scores of clicks, against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, ndcg_score, roc_auc_score

from peftlab.scores.clicks import ClickScores


def answers(count=300, users=12, seed=0):
    random = np.random.default_rng(seed)
    rows = zip(random.random(count).round(4), random.random(count) < 0.3, random.integers(0, users, count), strict=True)
    return [{"score": float(score), "gold": bool(gold), "user": f"u{user}"} for score, gold, user in rows]


def test_scores_are_those_of_scikit_learn():
    found, scorer = answers(), ClickScores()
    measured = scorer.measured(found)
    gold, score = (np.array([one[key] for one in found]) for key in ("gold", "score"))
    assert measured["log_loss"] == pytest.approx(log_loss(gold, score), rel=1e-6)
    assert measured["brier"] == pytest.approx(brier_score_loss(gold, score), rel=1e-6)
    assert measured["accuracy"] == pytest.approx(np.mean((score >= 0.5) == gold), rel=1e-6)
    assert measured["auc"] == pytest.approx(roc_auc_score(gold, score), rel=1e-6)
    aucs, ndcgs, first, sizes = [], [], [], []
    for user in {one["user"] for one in found}:
        own = np.array([one["user"] == user for one in found])
        aucs.append(roc_auc_score(gold[own], score[own]))
        ndcgs.append(ndcg_score(gold[own][None], score[own][None], k=10))
        first.append(1 / (1 + gold[own][np.argsort(-score[own])].argmax()))
        sizes.append(own.sum())
    assert measured["gauc"] == pytest.approx(np.average(aucs, weights=sizes), rel=1e-6)
    assert measured["ndcg@10"] == pytest.approx(np.mean(ndcgs), rel=1e-6)
    assert measured["mrr"] == pytest.approx(np.mean(first), rel=1e-6)
    assert scorer.measured(found[::-1]) == pytest.approx(measured, rel=1e-6)


def test_equal_scores_order_nothing():
    same = [one | {"score": 0.5} for one in answers()]
    measured = ClickScores().measured(same)
    assert measured["auc"] == measured["gauc"] == 0.5
    assert measured["mrr"] < 0.1


def test_without_both_kinds_there_is_no_order():
    measured = ClickScores().measured([one | {"gold": True} for one in answers()])
    assert all(np.isnan(measured[name]) for name in ("auc", "gauc", "ndcg@10", "mrr"))
    with pytest.raises(ValueError, match=r"1\.5 is no probability"):
        ClickScores().counts({"score": 1.5, "gold": True})


def test_an_answer_is_right_by_its_probability():
    answers = [{"gold": gold, "predicted": score >= 0.5, "score": score, "user": "u"} for gold, score in (
        (True, 0.9), (True, 0.1), (False, 0.1), (None, 0.9),
    )]  # fmt: skip
    assert [ClickScores().is_right(answer) for answer in answers] == [True, False, True, False]
