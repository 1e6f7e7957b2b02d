"""The pool: no gold in it, and what a budget pays for."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from peftlab.abstaining.spec import OutOfScope
from peftlab.active_learning.pool import (
    affordable,
    chosen_by_labels,
    costs,
    most,
    of_validation,
    remaining,
    without_gold,
)
from peftlab.data.cleaning.actions import Cleaning
from peftlab.data.subset import Subset
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence


def test_the_gold_is_gone():
    assert without_gold(Text("a", "x", "yes")) == Text("a", "x", None)
    assert without_gold(LabelledText("a", "x", ("yes",))) == LabelledText("a", "x", None)
    assert without_gold(Sentence("a", ["x", "y"], ["B-A", "I-A"])).tags == ["O", "O"]


def test_what_chooses_the_pool_by_labels_is_named():
    def of(duplicates="keep", subset=None, clean=None, out_of_scope=None):
        data = SimpleNamespace(duplicates=duplicates, subset=subset, clean=clean)
        return chosen_by_labels(SimpleNamespace(data=data, out_of_scope=out_of_scope))

    assert of() == of(subset=Subset(column="domain", values=["news"]), out_of_scope=OutOfScope(score="msp")) == []
    assert of(clean=Cleaning(leaks="drop", near_duplicates="drop", conflicts="report")) == []
    assert of("drop", Subset(labels=["a"]), Cleaning(conflicts="downweight"), OutOfScope(score="msp", held_out=2)) == [
        "data.duplicates=drop",
        "data.subset.labels",
        "data.clean.conflicts=downweight",
        "out_of_scope.held_out",
    ]
    assert of(out_of_scope=OutOfScope(score="msp", label="oos")) == ["out_of_scope.label"]


def test_a_budget_of_words_ends_with_the_sentence_that_reaches_it():
    cost = costs([Sentence("", ["w"] * n, ["O"] * n) for n in (5, 30, 3, 4)], in_words=True)
    assert cost.tolist() == [5, 30, 3, 4]
    assert affordable([2, 1, 0, 3], cost, 3) == [2]
    assert affordable([2, 1, 0, 3], cost, 4) == [2, 1]
    assert affordable([2, 1, 0, 3], cost, 0) == []
    assert affordable([2, 1, 0, 3], cost, 99) == [2, 1, 0, 3]
    assert most(cost, 8) == 3
    assert affordable([1, 0], costs("ab", in_words=False), 1) == [1]


def test_validation_gets_its_share_of_the_labels_and_one_at_least():
    random = np.random.default_rng(0)
    for new, asked, have, expected in ((20, 20, 0, 4), (20, 40, 4, 4), (3, 3, 0, 1), (1, 1, 0, 0), (2, 42, 8, 0)):
        chosen = of_validation([f"{n}" for n in range(new)], asked, have, 0.2, random)
        assert len(chosen) == expected
    assert remaining(5, [3, 0]).tolist() == [1, 2, 4]
