"""Baselines of a recommender: their options are chosen by a score of rankings, whatever selected the run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from peftlab.errors import UserError
from peftlab.recommending.interactions import Catalogue, Interaction
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
