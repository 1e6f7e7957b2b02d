"""Scores of intents and slots, against scikit-learn and seqeval."""

from __future__ import annotations

import random

import numpy as np
import pytest
from seqeval.metrics import f1_score
from sklearn.metrics import accuracy_score

from peftlab.scores.joint_scores import JointScores
from peftlab.scores.of_record import scorer_of

TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]
INTENTS = ["play", "stop", "ask"]


def answers(count, seed=0):
    draw = random.Random(seed)
    for _ in range(count):
        length = draw.randint(1, 4)
        gold, predicted = (
            {"intent": draw.choice(INTENTS), "tags": [draw.choice(TAGS[:2] * 3 + TAGS) for _ in range(length)]}
            for _ in range(2)
        )
        yield {"gold": gold, "predicted": gold if draw.random() < 0.3 else predicted}


def test_scores_are_those_of_other_libraries():
    scorer, rows = JointScores(["a", "b"], INTENTS), list(answers(200))
    total = scorer.total(rows)
    scores = scorer.scores(total)
    gold, predicted = ([row[key] for row in rows] for key in ("gold", "predicted"))
    tags, guesses = ([one["tags"] for one in each] for each in (gold, predicted))
    assert scores["slot_f1"] == pytest.approx(f1_score(tags, guesses), abs=1e-6)
    intents = accuracy_score([one["intent"] for one in gold], [one["intent"] for one in predicted])
    assert scores["intent_accuracy"] == pytest.approx(intents, abs=1e-6)
    whole = sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(rows)
    assert scores["sentence_accuracy"] == pytest.approx(whole, abs=1e-6)
    assert all(float(np.float32(value)) == value for value in scores.values())
    assert {"slot_f1/a", "intent_f1/stop"} <= scorer.details(total).keys()
    assert f"{scores['sentence_accuracy']:.4f}" in scorer.report(total)


def test_many_sums_at_once_are_those_one_by_one():
    scorer = JointScores(["a", "b"], INTENTS)
    totals = np.stack([scorer.total(answers(10 * n, n)) for n in range(5)])
    for name, values in scorer.batched(totals).items():
        assert values == pytest.approx([scorer.scores(total)[name] for total in totals], rel=1e-6)


def test_it_is_made_again_from_a_record():
    scorer = JointScores(["a", "b"], INTENTS, "discard")
    again = scorer_of(scorer.name, [*TAGS, *(f"intent/{intent}" for intent in INTENTS)])
    assert isinstance(again, JointScores)
    assert (again.slots.classes, again.intents.classes, again.repair) == (["a", "b"], INTENTS, "discard")
    rows = list(answers(20))
    assert (again.total(rows) == scorer.total(rows)).all()


def test_unknown_names_are_refused():
    row = next(answers(1))
    for wrong in ({"intent": "sing", "tags": row["gold"]["tags"]}, {"intent": "play", "tags": ["B-c"]}):
        with pytest.raises(ValueError, match=r"unknown class|predicted tags"):
            JointScores(["a", "b"], INTENTS).total([row | {"predicted": wrong}])
