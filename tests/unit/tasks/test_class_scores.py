from __future__ import annotations

import random

import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from peftlab.tasks.class_scores import ClassScores

LABELS = ["neutral", "positive", "negative", "mixed"]


def labels(seed: int, number: int = 300, classes=LABELS) -> tuple[list[str], list[str]]:
    """Predicted and gold labels of unequal frequency; half the predictions are right, and some class may be missing."""
    draw = random.Random(seed)
    weights = [draw.choice([0, 1, 5]) for _ in classes]
    weights[draw.randrange(len(classes))] = 3
    gold = draw.choices(classes, weights, k=number)
    return [label if draw.random() < 0.5 else draw.choice(classes[: draw.randint(1, 4)]) for label in gold], gold


def counted(predicted, gold, classes=LABELS) -> ClassScores:
    metric = ClassScores(classes)
    metric.update(predicted, gold)
    return metric


def scores(metric: ClassScores) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("classes", [LABELS, LABELS[:2]], ids=["four", "two"])
def test_scores_equal_scikit_learn(seed, classes):
    predicted, gold = labels(seed, classes=classes)
    metric = counted(predicted, gold, classes)
    found = scores(metric)
    assert found.keys() == set(ClassScores.SCORES)
    assert found["accuracy"] == pytest.approx(accuracy_score(gold, predicted))
    for average in ("macro", "micro", "weighted"):
        precision, recall, f1, _ = precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(f1)
        if average == "macro":
            assert found["macro_precision"] == pytest.approx(precision)
            assert found["macro_recall"] == pytest.approx(recall)
    rows = metric.table()
    order = sorted(classes)
    assert [row.name for row in rows] == order
    expected = precision_recall_fscore_support(gold, predicted, labels=order, zero_division=0)
    for column, name in enumerate(("precision", "recall", "f1", "support")):
        assert [getattr(row, name) for row in rows] == pytest.approx(expected[column].tolist(), abs=1e-12)
    columns, cells = metric.confusion_table()
    assert columns == ["gold \\ predicted", *order]
    assert [row[0] for row in cells] == order
    assert [row[1:] for row in cells] == confusion_matrix(gold, predicted, labels=order).tolist()


def test_a_small_example_by_hand():
    metric = counted(["positive", "positive", "negative"], ["positive", "negative", "negative"])
    assert scores(metric) == pytest.approx(
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


@pytest.mark.parametrize("size", [1, 7, 300])
def test_batches_add_up(size):
    predicted, gold = labels(1)
    metric = ClassScores(LABELS)
    for start in range(0, len(gold), size):
        metric.update(predicted[start : start + size], gold[start : start + size])
    assert scores(metric) == scores(counted(predicted, gold))


def test_processes_add_up():
    """As torchmetrics gathers them: each rank's state from all ranks, then reduced."""
    predicted, gold = labels(2)
    ranks = [counted(predicted[:100], gold[:100]), counted(predicted[100:], gold[100:])]
    gathered = [rank.confusion for rank in ranks]
    for rank in ranks:
        rank.distributed_available_fn = lambda: True
        rank.dist_sync_fn = lambda tensor, group=None: gathered
        rank.sync_on_compute = True
    whole = counted(predicted, gold)
    assert scores(ranks[0]) == scores(whole)
    assert scores(counted(predicted[:100], gold[:100])) != scores(whole)


def test_nothing_counted():
    assert set(scores(ClassScores(LABELS)).values()) == {0.0}
    assert [row.f1 for row in ClassScores(LABELS).table()] == [0.0] * 4


@pytest.mark.parametrize(
    ("predicted", "gold", "message"),
    [
        (["mixed"], ["mixed", "mixed"], "1 predicted labels for 2 gold labels"),
        (
            ["mixed", "good"],
            ["mixed", "mixed"],
            "unknown class 'good'; the classes are neutral, positive, negative, mixed",
        ),
        (["mixed", "mixed"], ["mixed", "good"], "unknown class 'good'"),
    ],
)
def test_errors_leave_the_counts_alone(predicted, gold, message):
    metric = ClassScores(LABELS)
    with pytest.raises(ValueError, match=message):
        metric.update(predicted, gold)
    assert metric.confusion.sum() == 0
