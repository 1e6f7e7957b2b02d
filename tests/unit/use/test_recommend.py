"""Baselines of a recommender: their options are chosen by a score of rankings, whatever selected the run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from peftlab.errors import UserError
from peftlab.recommending.interactions import Catalogue, Interaction
from peftlab.report.statistics.bootstrap import jackknife_interval
from peftlab.tasks.retrieval import Retrieval
from peftlab.use import recommend
from peftlab.use.recommend import compare


class Ranked:
    """A recommender that ranks the right item as it was told."""

    def __init__(self, histories, catalogue, rank):
        self.rank = rank


@pytest.mark.parametrize(("metric", "by"), [("mrr", "mrr"), ("loss", "ndcg@10")])
def test_options_are_chosen_by_a_score_of_rankings(monkeypatch, tmp_path, metric, by):
    examples = [Interaction(f"test:{n}", f"u{n}", 0, Catalogue(("a",), ("A",), ("A",))) for n in range(3)]
    data = SimpleNamespace(splits=dict.fromkeys(("train", "validation", "test"), SimpleNamespace(examples=examples)))
    monkeypatch.setattr(recommend, "CHOICES", {"item_knn": {"rank": (50, 1, 3)}})
    monkeypatch.setitem(recommend.BASELINES, "item_knn", Ranked)
    monkeypatch.setattr(recommend, "data_of", lambda run, splits: data)
    monkeypatch.setattr(
        recommend,
        "_answers",
        lambda made, of, asked=False: [{"rank": made.rank, "candidates": 99, "cold": False} for _ in of],
    )
    kept = [{"id": one.id, "gold": 0, "rank": 2, "candidates": 99, "cold": False} for one in examples]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    task = Retrieval.__new__(Retrieval)
    vars(task).update(selection=SimpleNamespace(metric=metric), name="retrieval")
    run = SimpleNamespace(spec=SimpleNamespace(task=task), folder=SimpleNamespace(predictions=tmp_path, path=tmp_path))
    found = compare(run, ["item_knn"], resamples=10)
    assert (found.chosen_by, found.systems[1].options) == (by, {"rank": 1})


def test_word_search_reads_what_is_asked_and_what_reads_histories_is_refused(monkeypatch, tmp_path):
    catalogue = Catalogue(("a", "b", "c"), ("A", "B", "C"), ("close an account", "lost card", "new card"))
    asked = [("how do I close it", 0), ("I lost it", 1)]
    examples = [Interaction(f"test:{n}", str(n), item, catalogue, query=query) for n, (query, item) in enumerate(asked)]
    data = SimpleNamespace(splits=dict.fromkeys(("train", "validation", "test"), SimpleNamespace(examples=examples)))
    monkeypatch.setattr(recommend, "data_of", lambda run, splits: data)
    kept = [{"id": one.id, "gold": 0, "rank": 2, "candidates": 3, "cold": False} for one in examples]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    task = Retrieval.__new__(Retrieval)
    vars(task).update(selection=SimpleNamespace(metric="mrr"), name="retrieval")
    run = SimpleNamespace(spec=SimpleNamespace(task=task), folder=SimpleNamespace(predictions=tmp_path, path=tmp_path))
    _, popularity, tf_idf = compare(run, resamples=10).systems
    assert (popularity.name, tf_idf.name, tf_idf.scores["mrr"].value) == ("popularity", "tf_idf", 1.0)
    with pytest.raises(UserError, match=r"ease: reads histories, and no test question has one. Allowed .* tf_idf"):
        compare(run, ["tf_idf", "ease"], resamples=10)


def test_intervals_of_cold_items_are_over_the_users_who_have_some(monkeypatch, tmp_path):
    """A resample without any of them has no score; it counted as one of 0."""
    catalogue = Catalogue(("a",), ("A",), ("A",))
    examples = [Interaction(f"test:{n}", f"u{n}", 0, catalogue) for n in range(200)]
    data = SimpleNamespace(splits=dict.fromkeys(("train", "validation", "test"), SimpleNamespace(examples=examples)))
    monkeypatch.setattr(recommend, "data_of", lambda run, splits: data)
    kept = [
        {"id": f"test:{n}", "gold": 0, "rank": 1 + 5 * (n % 3), "candidates": 99, "cold": n < 4} for n in range(200)
    ]
    monkeypatch.setitem(recommend.BASELINES, "popularity", lambda histories, catalogue: None)
    monkeypatch.setattr(recommend, "_answers", lambda made, of, asked=False: kept)
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    task = Retrieval.__new__(Retrieval)
    vars(task).update(selection=SimpleNamespace(metric="mrr"), name="retrieval")
    run = SimpleNamespace(spec=SimpleNamespace(task=task), folder=SimpleNamespace(predictions=tmp_path, path=tmp_path))
    own, popularity = compare(run, ["popularity"], resamples=500).systems
    cold = own.scores["cold_mrr"]
    assert (cold.clusters, cold.value) == (4, pytest.approx((1 + 1 / 6 + 1 / 11 + 1) / 4))
    assert 1 / 11 - 1e-9 <= cold.low < cold.value < cold.high <= 1  # no lower than the worst of them
    assert own.scores["mrr"].clusters == 196
    hits = own.scores["cold_hit@50"]
    assert (hits.value, hits.high) == (1, 1)
    assert hits.low == jackknife_interval(np.ones(4), bounded=True).low
    assert (popularity.ahead["cold_mrr"].value, popularity.ahead["cold_mrr"].low) == (0, None)
