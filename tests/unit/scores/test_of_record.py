"""The scorer that a record names."""

from __future__ import annotations

from typing import get_args

import pytest

from peftlab.scores.bio import Repair, bio_labels
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.of_record import scorer_of


@pytest.mark.parametrize("repair", get_args(Repair))
def test_a_scorer_is_made_again_from_its_name_and_the_labels(repair):
    types = ["PER", "LOC"]
    scorer = EntityScores(types, repair)
    again = scorer_of(scorer.name, bio_labels(types))
    assert isinstance(again, EntityScores)
    assert (again.name, again.classes, again.width) == (scorer.name, types, scorer.width)
    answer = {"gold": ["B-PER", "O", "B-LOC"], "predicted": ["B-PER", "I-LOC", "B-LOC"]}
    assert again.counts(answer) == scorer.counts(answer)


def test_labels_of_texts_keep_their_order():
    again = scorer_of(ClassScores(["b", "a"]).name, ["b", "a"])
    assert isinstance(again, ClassScores)
    assert again.classes == ["b", "a"]


def test_another_scorer_is_unknown():
    assert scorer_of("conll entity-level, repair=magic", ["O", "B-X", "I-X"]) is None
    assert scorer_of("", []) is None
