"""Ranks among all items, and the scores that follow from them, against trec_eval."""

import numpy as np
import pytest
import pytrec_eval

from peftlab.recommending.ranking import ranked, ranks
from peftlab.scores.rankings import RankingScores


def test_ties_count_against_the_right_item_and_what_is_seen_is_left_out():
    scores = np.array([3.0, 1.0, 1.0, np.nan, 5.0])
    assert ranked(scores, 2, {4}, 2) == (3, 4, [0, 1])
    assert ranked(scores, 3, (), 9) == (5, 5, [4, 0, 1, 2, 3])
    assert ranked(np.zeros(5), 0, {1}, 0).rank == 4
    assert ranked(scores, None, {0, 4}, 1) == (None, 3, [1])


def test_scores_are_those_of_trec_eval():
    random = np.random.default_rng(0)
    queries, items = 60, 120
    scores, gold = random.random((queries, items)), random.integers(0, items, queries)
    seen = [{*random.integers(0, items, 5).tolist()} - {int(one)} for one in gold]
    found = ranks(scores, gold, seen)
    answers = [{"rank": int(r), "candidates": items - len(s), "cold": False} for r, s in zip(found, seen, strict=True)]
    scorer = RankingScores()
    own = scorer.scores(scorer.total(answers))
    run = {str(q): {str(n): float(scores[q, n]) for n in range(items) if n not in seen[q]} for q in range(queries)}
    theirs = pytrec_eval.RelevanceEvaluator(
        {str(q): {str(gold[q]): 1} for q in range(queries)}, {"ndcg_cut.10", "recall.10,50", "recip_rank"}
    ).evaluate(run)
    names = {"ndcg@10": "ndcg_cut_10", "hit@10": "recall_10", "mrr": "recip_rank", "hit@50": "recall_50"}
    for name, trec in names.items():
        assert own[name] == pytest.approx(np.mean([one[trec] for one in theirs.values()]), abs=1e-6)


def test_cold_items_are_scored_apart_beside_chance():
    scorer = RankingScores()
    answers = [{"rank": rank, "candidates": 100, "cold": cold} for rank, cold in [(1, False), (40, False), (10, True)]]
    details = scorer.details(scorer.total(answers))
    assert details["hit@10"] == 0.5
    assert details["hit@50"] == details["cold_hit@10"] == 1
    assert details["cold_chance@10"] == details["chance@10"] == pytest.approx(0.1)
    assert "cold_mrr" not in scorer.details(scorer.total(answers[:2]))
    with pytest.raises(ValueError, match="rank 101 of 100"):
        scorer.counts({"rank": 101, "candidates": 100, "cold": False})
    assert RankingScores.named(scorer.name, []) is not None


def test_a_ranking_is_right_if_the_right_item_is_first():
    answers = [{"gold": "a", "predicted": ["b"], "rank": rank, "candidates": 9, "cold": False} for rank in (1, 2, None)]
    assert [RankingScores().is_right(answer) for answer in answers] == [True, False, False]
