from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import pytest
import torch

from peftlab.scores.bio import bio_labels
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.scorer import Scorer
from peftlab.tasks.outputs.metric import ScorerMetric

TYPES = ["PER", "LOC"]


def answers(seed: int = 0, number: int = 120) -> list[dict[str, list[str]]]:
    draw, tags = random.Random(seed), bio_labels(TYPES)
    gold = [draw.choices(tags, k=draw.randint(0, 8)) for _ in range(number)]
    return [{"gold": one, "predicted": [draw.choice([tag, draw.choice(tags)]) for tag in one]} for one in gold]


def counted(given) -> ScorerMetric:
    metric = ScorerMetric(EntityScores(TYPES))
    metric.update(given)
    return metric


def scores(metric: ScorerMetric) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


def test_it_computes_the_scores_of_its_scorer():
    given, scorer = answers(), EntityScores(TYPES)
    metric = counted(given)
    assert scores(metric) == scorer.scores(scorer.total(given))
    assert (metric.total() == scorer.total(given)).all()
    assert {value.dtype for value in metric.compute().values()} == {torch.float32}


@pytest.mark.parametrize("size", [1, 7, 120])
def test_batches_add_up(size):
    given, metric = answers(), ScorerMetric(EntityScores(TYPES))
    for start in range(0, len(given), size):
        metric.update(given[start : start + size])
    assert scores(metric) == scores(counted(given))
    metric.reset()
    assert metric.total().sum() == 0


def test_processes_add_up():
    given = answers()
    whole = counted(given)
    ranks = [counted(given[:20]), counted(given[20:70]), counted(given[70:])]
    merged = counted(given[:20])
    for rank in ranks[1:]:
        merged.merge_state(rank)
    assert scores(merged) == scores(whole)

    # torchmetrics gathers each state in turn; here from the other metrics instead of other processes
    gathered = [rank.counts for rank in ranks]
    ranks[0].dist_sync_fn = lambda state, group=None: gathered
    ranks[0].distributed_available_fn = lambda: True
    assert scores(ranks[0]) == scores(whole)
    assert (ranks[0].total() == whole.total()).all()
    assert torch.equal(ranks[0].counts, gathered[0])  # its own count is back


def test_an_answer_that_cannot_be_scored_leaves_the_counts_alone():
    metric = ScorerMetric(EntityScores(TYPES))
    with pytest.raises(ValueError, match="unknown class 'ORG'"):
        metric.update([*answers(), {"gold": ["O"], "predicted": ["B-ORG"]}])
    assert metric.total().sum() == 0


def test_scores_stay_float32_where_the_default_dtype_is_bfloat16():
    given = answers()
    expected = scores(counted(given))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert scores(counted(given)) == expected
    finally:
        torch.set_default_dtype(before)


class MeanError(Scorer):
    """The mean squared error: a measure that is added up, and of which less is better."""

    directions: ClassVar[dict[str, str]] = {"mse": "min"}
    dtype = np.float64
    name, width = "mean squared error", 2

    def counts(self, answer):
        return {0: (answer["gold"] - answer["predicted"]) ** 2, 1: 1}

    def scores(self, total):
        return {"mse": float(total[0] / max(total[1], 1))}


def test_a_scorer_may_add_up_measures():
    metric = ScorerMetric(MeanError())
    metric.update([{"gold": 1.5, "predicted": 1.0}])
    metric.update([{"gold": 0.0, "predicted": 0.5}, {"gold": 1.0, "predicted": 1.0}])
    assert scores(metric) == pytest.approx({"mse": 0.5 / 3})
    assert MeanError().report(metric.total()) == "mse  0.1667"
    assert MeanError().details(metric.total()) == MeanError().scores(metric.total())
    assert MeanError().tables(metric.total()) == {}
