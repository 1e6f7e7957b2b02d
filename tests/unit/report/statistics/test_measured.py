"""Counts by cluster and the parts of a score: against the formula, one cluster at a time."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.report.statistics import measured
from peftlab.report.statistics.measured import (
    Measured,
    cluster_counts,
    counts_of_clusters,
    pseudo_values,
    score_of,
)
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.label_sets import LabelSets
from peftlab.scores.paired import counts_of

SCORER = EntityScores(["LOC", "PER"])


def f1(totals):
    return score_of(SCORER, "entity_f1")(totals)


def test_clusters_stand_in_the_order_of_their_first_examples():
    counts = np.array([[1, 0], [0, 1], [2, 0], [0, 4], [8, 8]])
    assert cluster_counts(counts, ["b", None, "a", "b", None]).tolist() == [[1, 4], [0, 1], [2, 0], [8, 8]]
    assert cluster_counts(counts.astype(float), ["a"] * 5).tolist() == [[11, 13]]
    with pytest.raises(ValueError, match="2 clusters are named for 5 examples"):
        cluster_counts(counts, ["a", "b"])


def test_pseudo_values_leave_out_one_cluster_each(cases):
    random = np.random.default_rng(0)
    for _ in cases:
        number = int(random.integers(2, 12))
        counts = random.integers(0, 5, (number, SCORER.width))
        whole = f1(counts.sum(axis=0)[None])[0]
        without = [f1(np.delete(counts, j, axis=0).sum(axis=0)[None])[0] for j in range(number)]
        expected = [whole + (number - 1) * (np.mean(without) - one) for one in without]
        assert pseudo_values(counts, f1) == pytest.approx(expected, abs=1e-9)


def test_of_a_mean_they_are_its_terms():
    right = np.array([[1, 10], [4, 10], [7, 10]])  # of ten examples each
    assert pseudo_values(right, lambda totals: totals[:, 0] / totals[:, 1]) == pytest.approx([0.1, 0.4, 0.7])


def test_a_single_cluster_is_the_score_and_none_is_refused():
    counts = np.array([[2, 0, 0, 0, 1, 0, 1, 0, 0]])
    assert pseudo_values(counts, f1) == f1(counts)
    with pytest.raises(ValueError, match="no cluster"):
        pseudo_values(counts[:0], f1)


def test_scores_follow_from_counts():
    counts = {seed: np.random.default_rng(seed).integers(0, 5, (6, 9)) for seed in (3, 1)}
    lora = Measured.of_counts("lora", counts, f1)
    assert (lora.seeds, lora.pseudo_values.shape) == ((3, 1), (2, 6))
    assert lora.scores == pytest.approx([f1(one.sum(axis=0)[None])[0] for one in counts.values()])
    with pytest.raises(ValueError, match="lora: the counts differ in shape"):
        Measured.of_counts("lora", {**counts, 2: counts[1][:5]}, f1)


def test_an_unknown_score_is_named_with_what_there_is():
    with pytest.raises(ValueError, match="no score 'f1'; it has entity_precision"):
        score_of(SCORER, "f1")


TYPES = [f"T{number}" for number in range(70)]


def texts(random):
    """Answers of one label each, most of them right."""
    pairs = [random.choice(TYPES, 2) if random.random() < 0.3 else [random.choice(TYPES)] * 2 for _ in range(300)]
    return ClassScores(TYPES), [{"gold": gold, "predicted": predicted} for gold, predicted in pairs]


def sentences(random):
    """Answers of two words, many of which have no entity."""
    tags = ["O", *(f"B-{name}" for name in TYPES)]
    drawn = random.integers(0, 71, (300, 2, 2)) * (random.random((300, 1, 2)) < 0.4)
    return EntityScores(TYPES), [
        {"gold": [tags[n] for n in gold], "predicted": [tags[n] for n in predicted]} for gold, predicted in drawn
    ]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("drawn", [texts, sentences])
def test_without_their_zeros_counts_say_the_same_to_the_last_bit(monkeypatch, drawn, grouped):
    scorer, answers = drawn(np.random.default_rng(0))
    groups = [f"{n % 90}" if grouped else None for n in range(len(answers))]
    whole = cluster_counts(counts_of(scorer, answers), groups)
    sparse = counts_of_clusters(scorer, answers, groups)
    assert not isinstance(sparse, np.ndarray)
    assert np.array_equal(sparse.toarray(), whole)
    assert sparse.sum(axis=0).dtype == whole.sum(axis=0).dtype
    monkeypatch.setattr(measured, "_MOST_CELLS", 3 * scorer.width)
    for name in scorer.directions:
        held: list[int] = []

        def score(totals, name=name, held=held):
            held.append(len(totals))
            return score_of(scorer, name)(totals)

        assert pseudo_values(sparse, score).tobytes() == pseudo_values(whole, score_of(scorer, name)).tobytes()
        assert max(held) <= 3
        assert sum(held) <= 1 + len({row.tobytes() for row in whole})


def test_counts_of_few_labels_and_sums_of_measures_are_kept_whole():
    answers = [{"gold": "a", "predicted": "b"}]
    assert isinstance(counts_of_clusters(ClassScores(["a", "b"]), answers, [None]), np.ndarray)
    many = LabelSets([f"label {number}" for number in range(2000)])
    one = {"gold": [], "predicted": [], "probabilities": dict.fromkeys(many.labels, 0.5)}
    assert isinstance(counts_of_clusters(many, [one], [None]), np.ndarray)


def test_no_answer_is_no_cluster():
    assert counts_of_clusters(ClassScores(TYPES), [], []).shape == (0, 4900)
