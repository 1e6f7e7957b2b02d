"""Curves: areas and paired differences, by hand."""

from __future__ import annotations

import pytest

from peftlab.active_learning.curve import as_json, document, outcome, rows
from peftlab.report import html
from peftlab.report.drawing.drawn import draw_all

SCORES = {"entropy": [[0.1, 0.2, 0.3], [0.2, 0.4, 0.5]], "random": [[0.1, 0.4, 0.6], [0.2, 0.5, 0.8]]}


def facts(scores, beside=0, by_labels=()):
    same = {"metric": "accuracy", "beside": beside, "pool_by_labels": [*by_labels]}
    return [
        {"query": query, "seed": seed, "budget": 20 + 10 * n, "score": score, **same}
        for query, seeds in scores.items()
        for seed, of_seed in enumerate(seeds)
        for n, score in enumerate(of_seed)
    ]


def test_areas_are_mean_scores_and_gains_are_paired():
    found = outcome(facts(SCORES), "labels")
    entropy, random = found.curves
    assert found.baseline is random
    assert random.areas.tolist() == pytest.approx([0.375, 0.5])  # (.1/2 + .4 + .6/2) / 2
    gain = found.gain(entropy)
    assert (gain.value, gain.number) == (pytest.approx(((0.2 - 0.375) + (0.375 - 0.5)) / 2), 2)
    assert gain.low < gain.value < gain.high
    assert [curve["gain"] is None for curve in as_json(found)["curves"]] == [False, True]


def test_no_interval_has_a_score_that_there_cannot_be():
    (random,) = outcome(facts({"random": [[0.9, 1.0], [0.99, 1.0]]}), "labels").curves
    assert [(point.high, random.area.high) for point in random.points] == [(1, 1), (1, 1)]


def test_only_what_every_seed_has_reached_is_compared():
    found = outcome(facts(SCORES | {"entropy": [[0.1, 0.2]]}), "words")
    assert [curve.budgets.tolist() for curve in found.curves] == [[20, 30], [20, 30]]
    assert rows(found)[0] == ["query", "20 words", "30 words", "area", "minus random"]
    assert rows(found)[1][1] == "0.1000"
    alone = outcome(facts({"badge": [[0.1]]}), "labels")
    assert (alone.baseline.query, alone.baseline.areas.tolist()) == ("badge", [0.1])


def test_the_labels_that_chose_the_pool_are_told():
    assert outcome(facts(SCORES), "labels").labels_used == "No label was used that was not asked for."
    by_labels = ("data.duplicates=drop", "data.subset.labels")
    found = outcome(facts(SCORES, by_labels=by_labels), "labels")
    assert found.labels_used == (
        "Labels of the whole pool decided what is in it: data.duplicates=drop, data.subset.labels. No other label was "
        "used that was not asked for."
    )
    assert as_json(found)["pool_by_labels"] == [*by_labels]
    (section,) = document(found, "loop").sections
    assert found.labels_used in [getattr(block, "text", "") for block in section.blocks]


@pytest.mark.slow
def test_the_page_counts_the_labels_that_choose():
    page = document(outcome(facts(SCORES, beside=1540), "labels"), "loop")
    text = html.page(page, draw_all(page))
    assert "1,540 labels of the validation split chose checkpoints" in text
    assert "<svg" in text
