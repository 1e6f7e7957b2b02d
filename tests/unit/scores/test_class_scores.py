from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from peftlab.scores.class_scores import ClassScores

LABELS = ["neutral", "positive", "negative", "mixed"]


def answers(seed: int, number: int = 300, classes=LABELS) -> list[dict[str, str]]:
    """Labels of unequal frequency; half the predictions are right, and some class may be missing."""
    draw = random.Random(seed)
    weights = [draw.choice([0, 1, 5]) for _ in classes]
    weights[draw.randrange(len(classes))] = 3
    gold = draw.choices(classes, weights, k=number)
    wrong = [draw.choice(classes[: draw.randint(1, 4)]) for _ in gold]
    return [{"gold": a, "predicted": a if draw.random() < 0.5 else b} for a, b in zip(gold, wrong, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("classes", [LABELS, LABELS[:2]], ids=["four", "two"])
def test_scores_equal_scikit_learn(classes):
    scorer, order = ClassScores(classes), sorted(classes)
    for seed in range(20):
        given = answers(seed, classes=classes)
        gold, predicted = ([answer[key] for answer in given] for key in ("gold", "predicted"))
        total = scorer.total(given)
        found = scorer.scores(total)
        assert list(found) == list(ClassScores.directions)
        assert found["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
        for average in ("macro", "micro", "weighted"):
            expected = precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)
            assert found[f"{average}_f1"] == pytest.approx(expected[2])
            if average == "macro":
                assert (found["macro_precision"], found["macro_recall"]) == pytest.approx(expected[:2])
        rows = scorer.rows(total)
        assert [row.name for row in rows] == order
        expected = precision_recall_fscore_support(gold, predicted, labels=order, zero_division=0)
        for column, name in enumerate(("precision", "recall", "f1", "support")):
            assert [getattr(row, name) for row in rows] == pytest.approx(expected[column].tolist(), abs=1e-12)
        columns, cells = scorer.confusion_table(total)
        assert columns == ["gold \\ predicted", *order]
        assert [row[0] for row in cells] == order
        assert [row[1:] for row in cells] == confusion_matrix(gold, predicted, labels=order).tolist()


def test_a_small_example_by_hand():
    pairs = [("positive", "positive"), ("positive", "negative"), ("negative", "negative")]
    scorer = ClassScores(LABELS)
    total = scorer.total([{"predicted": predicted, "gold": gold} for predicted, gold in pairs])
    assert scorer.scores(total) == pytest.approx(
        # positive: precision 1/2, recall 1; negative: precision 1, recall 1/2; the other two occur nowhere
        {
            "accuracy": 2 / 3,
            "macro_f1": 2 / 3,
            "micro_f1": 2 / 3,
            "weighted_f1": 2 / 3,
            "macro_precision": 3 / 4,
            "macro_recall": 3 / 4,
        }
    )


def test_an_answer_counts_in_one_cell():
    scorer = ClassScores(["a", "b"])
    assert [scorer.counts({"gold": gold, "predicted": predicted}) for gold in "ab" for predicted in "ab"] == [
        {0: 1},
        {1: 1},
        {2: 1},
        {3: 1},
    ]


def test_the_counts_of_examples_add_up():
    scorer, given = ClassScores(LABELS), answers(1)
    assert (sum(scorer.total([answer]) for answer in given) == scorer.total(given)).all()
    assert (scorer.total(given * 2) == 2 * scorer.total(given)).all()


def test_details_report_and_tables_hold_every_label():
    scorer = ClassScores(["neg", "pos"])
    total = scorer.total([{"predicted": p, "gold": g} for p, g in [("neg", "neg"), ("neg", "pos"), ("pos", "pos")]])
    details = scorer.details(total)
    assert details.items() >= scorer.scores(total).items()
    assert details["accuracy"] == pytest.approx(2 / 3)
    assert (details["precision/neg"], details["recall/neg"]) == (0.5, 1.0)
    assert details["f1/pos"] == pytest.approx(2 / 3)
    assert scorer.report(total).splitlines() == [
        "               precision  recall      f1  support",
        "neg               0.5000  1.0000  0.6667        1",
        "pos               1.0000  0.5000  0.6667        2",
        "macro average     0.7500  0.7500  0.6667        3",
        "accuracy 0.6667, weighted F1 0.6667",
    ]
    tables = scorer.tables(total)
    assert tables["confusion"] == (["gold \\ predicted", "neg", "pos"], [["neg", 1, 0], ["pos", 1, 1]])
    columns, rows = tables["classes"]
    assert columns == ["label", "precision", "recall", "f1", "support", "predicted"]
    assert rows == [["neg", 0.5, 1.0, 2 / 3, 1, 2], ["pos", 1.0, 0.5, 2 / 3, 2, 1]]


def test_nothing_counted():
    scorer = ClassScores(LABELS)
    assert set(scorer.details(np.zeros(16, np.int64)).values()) == {0.0}
    assert set(ClassScores([]).scores(ClassScores([]).total([])).values()) == {0.0}


def test_unknown_labels():
    scorer, right = ClassScores(LABELS), {"predicted": "mixed", "gold": "mixed"}
    message = "unknown class 'good'; the classes are neutral, positive, negative, mixed"
    for wrong in ("predicted", "gold"):
        with pytest.raises(ValueError, match=message):
            scorer.total([right, right | {wrong: "good"}])
    with pytest.raises(ValueError, match="unknown class None"):
        scorer.counts(right | {"gold": None})
