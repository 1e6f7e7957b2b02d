import random

import pytest
import torch
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from peftlab.tasks.bio import bio_labels
from peftlab.tasks.confusion import ClassRow
from peftlab.tasks.entity_scores import EntityScores

TYPES = ["PER", "LOC", "creative-work"]


def sentences(seed: int, number: int = 300, types: list[str] = TYPES) -> tuple[list[list[str]], list[list[str]]]:
    """Predicted and gold tags, any sequence of labels; half the predictions are the gold tag."""
    random_ = random.Random(seed)
    labels = bio_labels(types)
    gold = [random_.choices(labels, k=random_.randint(0, 12)) for _ in range(number)]
    predicted = [[tag if random_.random() < 0.5 else random_.choice(labels) for tag in tags] for tags in gold]
    return predicted, gold


def scores(metric: EntityScores) -> dict[str, float]:
    return {name: value.item() for name, value in metric.compute().items()}


def counted(predicted: list[list[str]], gold: list[list[str]], repair="conlleval") -> EntityScores:
    metric = EntityScores(TYPES, repair)
    metric.update(predicted, gold)
    return metric


@pytest.mark.parametrize("repair", ["conlleval", "discard"])
@pytest.mark.parametrize("seed", range(10))
def test_scores_equal_seqeval(repair, seed: int) -> None:
    predicted, gold = sentences(seed)
    strictness = {} if repair == "conlleval" else {"mode": "strict", "scheme": IOB2}
    report = classification_report(gold, predicted, output_dict=True, zero_division=0, **strictness)
    metric = counted(predicted, gold, repair)
    computed = scores(metric)
    assert computed["entity_precision"] == pytest.approx(report["micro avg"]["precision"])
    assert computed["entity_recall"] == pytest.approx(report["micro avg"]["recall"])
    assert computed["entity_f1"] == pytest.approx(report["micro avg"]["f1-score"])
    assert computed["entity_f1_macro"] == pytest.approx(report["macro avg"]["f1-score"])
    rows = metric.table()
    assert [row.name for row in rows] == sorted(TYPES)
    for row in rows:
        expected = report[row.name]
        assert row.precision == pytest.approx(expected["precision"], abs=1e-12)
        assert row.recall == pytest.approx(expected["recall"], abs=1e-12)
        assert row.f1 == pytest.approx(expected["f1-score"], abs=1e-12)
        assert row.support == expected["support"]


def test_a_small_example_by_hand() -> None:
    predicted = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    gold = [["B-PER", "I-PER", "O", "O"], ["B-LOC", "I-LOC"]]
    metric = counted(predicted, gold)
    assert scores(metric) == pytest.approx(
        # correct: PER 1 of 1 predicted and 1 gold, LOC 0 of 2 and 1; creative-work occurs nowhere
        {"entity_precision": 1 / 3, "entity_recall": 1 / 2, "entity_f1": 2 / 5, "entity_f1_macro": 1 / 2}
    )
    assert metric.table() == [
        ClassRow(name="LOC", precision=0.0, recall=0.0, f1=0.0, support=1, predicted=2),
        ClassRow(name="PER", precision=1.0, recall=1.0, f1=1.0, support=1, predicted=1),
        ClassRow(name="creative-work", precision=0.0, recall=0.0, f1=0.0, support=0, predicted=0),
    ]


def test_the_macro_score_counts_a_type_that_is_only_predicted() -> None:
    metric = counted([["B-PER", "B-LOC"]], [["B-PER", "O"]])
    assert scores(metric)["entity_f1_macro"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(5))
def test_batches_in_any_split_equal_one_update(seed: int) -> None:
    predicted, gold = sentences(seed, 100)
    whole = counted(predicted, gold)
    random_ = random.Random(seed)
    split = EntityScores(TYPES)
    start = 0
    while start < len(gold):
        size = random_.choice([0, 1, 1, 7, 30])
        split.update(predicted[start : start + size], gold[start : start + size])
        start += size
    assert scores(split) == scores(whole)
    assert split.table() == whole.table()


def test_forward_scores_the_batch_and_adds_to_the_whole() -> None:
    predicted, gold = sentences(0)
    metric = EntityScores(TYPES)
    first = metric(predicted[:50], gold[:50])
    metric(predicted[50:], gold[50:])
    assert {name: value.item() for name, value in first.items()} == scores(counted(predicted[:50], gold[:50]))
    assert scores(metric) == scores(counted(predicted, gold))
    assert first["entity_f1"] != metric.compute()["entity_f1"]


def test_processes_together_equal_the_whole() -> None:
    predicted, gold = sentences(1)
    whole = counted(predicted, gold)
    parts = [slice(0, 20), slice(20, 170), slice(170, 300)]
    ranks = [counted(predicted[part], gold[part]) for part in parts]
    merged = counted(predicted[parts[0]], gold[parts[0]])
    for rank in ranks[1:]:
        merged.merge_state(rank)
    assert scores(merged) == scores(whole)

    # torchmetrics gathers each state in turn; here from the other metrics instead of other processes
    gathered = [rank.confusion for rank in ranks]
    ranks[0].dist_sync_fn = lambda state, group=None: gathered
    ranks[0].distributed_available_fn = lambda: True
    assert scores(ranks[0]) == scores(whole)
    assert ranks[0].table() == whole.table()
    assert ranks[0].confusion_table() == whole.confusion_table()
    assert torch.equal(ranks[0].confusion, gathered[0])  # its own count is back


def test_the_mean_of_batch_scores_is_another_number() -> None:
    predicted, gold = [["B-PER"], ["B-LOC", "B-LOC", "B-LOC"]], [["B-PER"], ["B-PER", "B-PER", "B-PER"]]
    batches = [scores(counted([a], [b]))["entity_f1"] for a, b in zip(predicted, gold, strict=True)]
    assert sum(batches) / 2 == pytest.approx(0.5)
    assert scores(counted(predicted, gold))["entity_f1"] == pytest.approx(0.25)


def test_states_are_integers_a_type_and_reset() -> None:
    metric = counted(*sentences(0))
    for name in ("correct", "predicted", "gold"):
        state = getattr(metric, name)
        assert state.dtype == torch.long
        assert state.shape == (len(TYPES),)
        assert state.sum() > 0
    metric.reset()
    assert metric.gold.sum() == 0


@pytest.mark.parametrize("tags", [[], [[]], [["O", "O"]]])
def test_without_entities_all_scores_are_zero(tags: list[list[str]]) -> None:
    metric = counted(tags, tags)
    assert set(scores(metric).values()) == {0.0}
    assert [row.f1 for row in metric.table()] == [0.0, 0.0, 0.0]


def test_scores_stay_float32_where_the_default_dtype_is_bfloat16() -> None:
    metric = counted(*sentences(0))
    expected = scores(metric)
    again = counted(*sentences(0))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        computed = again.compute()
    finally:
        torch.set_default_dtype(before)
    assert {value.dtype for value in computed.values()} == {torch.float32}
    assert {name: value.item() for name, value in computed.items()} == expected


@pytest.mark.parametrize(
    ("predicted", "gold", "message"),
    [
        ([["O"]], [["O"], ["O"]], "1 predicted sentences for 2 gold sentences"),
        ([["B-PER"], ["O"]], [["B-PER"], ["O", "O"]], "sentence 1: 1 predicted tags for 2 gold tags"),
        (
            [["B-PER"], ["B-ORG"]],
            [["B-PER"], ["O"]],
            "unknown class 'ORG'; the classes are PER, LOC, creative-work",
        ),
        ([["B-PER"], ["O"]], [["B-PER"], ["B-ORG"]], "unknown class 'ORG'"),
        ([["B-PER"], ["PER"]], [["B-PER"], ["O"]], "'PER' is not a tag"),
    ],
)
def test_errors_leave_the_counts_alone(predicted: list[list[str]], gold: list[list[str]], message: str) -> None:
    metric = EntityScores(TYPES)
    with pytest.raises(ValueError, match=message):
        metric.update(predicted, gold)
    assert metric.predicted.sum() == 0
    assert metric.gold.sum() == 0


def test_the_scorer_is_named() -> None:
    assert EntityScores(TYPES).scorer == "conll entity-level, repair=conlleval"
    assert EntityScores(TYPES, repair="discard").scorer == "conll entity-level, repair=discard"
    assert EntityScores.higher_is_better
    assert EntityScores.full_state_update is False
