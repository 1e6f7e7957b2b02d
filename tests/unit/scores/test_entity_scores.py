import random

import pytest
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from peftlab.scores.bio import bio_labels
from peftlab.scores.confusion import ClassRow
from peftlab.scores.entity_scores import EntityScores

TYPES = ["PER", "LOC", "creative-work"]


def sentences(seed: int, number: int = 300, types: list[str] = TYPES) -> tuple[list[list[str]], list[list[str]]]:
    """Predicted and gold tags, any sequence of labels; half the predictions are the gold tag."""
    random_ = random.Random(seed)
    labels = bio_labels(types)
    gold = [random_.choices(labels, k=random_.randint(0, 12)) for _ in range(number)]
    predicted = [[tag if random_.random() < 0.5 else random_.choice(labels) for tag in tags] for tags in gold]
    return predicted, gold


def answers(predicted: list[list[str]], gold: list[list[str]]) -> list[dict[str, list[str]]]:
    return [{"predicted": a, "gold": b} for a, b in zip(predicted, gold, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("repair", ["conlleval", "discard"])
def test_scores_equal_seqeval(repair) -> None:
    strictness = {} if repair == "conlleval" else {"mode": "strict", "scheme": IOB2}
    scorer = EntityScores(TYPES, repair)
    for seed in range(10):
        predicted, gold = sentences(seed)
        report = classification_report(gold, predicted, output_dict=True, zero_division=0, **strictness)
        total = scorer.total(answers(predicted, gold))
        found = scorer.scores(total)
        assert list(found) == list(EntityScores.directions)
        assert found["entity_precision"] == pytest.approx(report["micro avg"]["precision"])
        assert found["entity_recall"] == pytest.approx(report["micro avg"]["recall"])
        assert found["entity_f1"] == pytest.approx(report["micro avg"]["f1-score"])
        assert found["entity_f1_macro"] == pytest.approx(report["macro avg"]["f1-score"])
        rows = scorer.rows(total)
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
    scorer = EntityScores(TYPES)
    total = scorer.total(answers(predicted, gold))
    assert scorer.scores(total) == pytest.approx(
        # correct: PER 1 of 1 predicted and 1 gold, LOC 0 of 2 and 1; creative-work occurs nowhere
        {"entity_precision": 1 / 3, "entity_recall": 1 / 2, "entity_f1": 2 / 5, "entity_f1_macro": 1 / 2}
    )
    assert scorer.rows(total) == [
        ClassRow(name="LOC", precision=0.0, recall=0.0, f1=0.0, support=1, predicted=2),
        ClassRow(name="PER", precision=1.0, recall=1.0, f1=1.0, support=1, predicted=1),
        ClassRow(name="creative-work", precision=0.0, recall=0.0, f1=0.0, support=0, predicted=0),
    ]
    assert scorer.confusion_table(total) == (
        ["gold \\ predicted", "LOC", "PER", "creative-work", "missed"],
        [
            ["LOC", 0, 0, 0, 1],
            ["PER", 0, 1, 0, 0],
            ["creative-work", 0, 0, 0, 0],
            ["spurious", 2, 0, 0, 0],
        ],
    )


def test_the_macro_score_counts_a_type_that_is_only_predicted() -> None:
    scorer = EntityScores(TYPES)
    total = scorer.total(answers([["B-PER", "B-LOC"]], [["B-PER", "O"]]))
    assert scorer.scores(total)["entity_f1_macro"] == pytest.approx(1 / 2)


def test_the_counts_of_sentences_add_up() -> None:
    scorer, given = EntityScores(TYPES), answers(*sentences(3, 50))
    assert (sum(scorer.total([answer]) for answer in given) == scorer.total(given)).all()


def test_the_mean_of_batch_scores_is_another_number() -> None:
    given = answers([["B-PER"], ["B-LOC", "B-LOC", "B-LOC"]], [["B-PER"], ["B-PER", "B-PER", "B-PER"]])
    scorer = EntityScores(TYPES)
    batches = [scorer.scores(scorer.total([answer]))["entity_f1"] for answer in given]
    assert sum(batches) / 2 == pytest.approx(0.5)
    assert scorer.scores(scorer.total(given))["entity_f1"] == pytest.approx(0.25)


@pytest.mark.parametrize("tags", [[], [[]], [["O", "O"]]])
def test_without_entities_all_scores_are_zero(tags: list[list[str]]) -> None:
    scorer = EntityScores(TYPES)
    assert set(scorer.details(scorer.total(answers(tags, tags))).values()) == {0.0}


def test_details_and_report_hold_every_type() -> None:
    scorer = EntityScores(["LOC", "PER", "ORG"])
    gold = ["B-LOC", "B-PER", "O"]
    total = scorer.total(answers([["B-LOC", "O", "B-LOC"]], [gold]))
    details = scorer.details(total)
    assert details["entity_f1"] == pytest.approx(1 / 2)
    assert (details["entity_precision/LOC"], details["entity_recall/LOC"]) == (0.5, 1)
    assert details["entity_f1/PER"] == details["entity_f1/ORG"] == 0
    lines = scorer.report(total).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["LOC", "ORG", "PER", "all"]


@pytest.mark.parametrize(
    ("predicted", "gold", "message"),
    [
        (["O"], ["O", "O"], "1 predicted tags for 2 gold tags"),
        (["B-ORG"], ["O"], "unknown class 'ORG'; the classes are PER, LOC, creative-work"),
        (["O"], ["B-ORG"], "unknown class 'ORG'"),
        (["PER"], ["O"], "'PER' is not a tag"),
    ],
)
def test_what_cannot_be_scored(predicted: list[str], gold: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EntityScores(TYPES).counts({"predicted": predicted, "gold": gold})


def test_the_scorer_is_named() -> None:
    assert EntityScores(TYPES).name == "conll entity-level, repair=conlleval"
    assert EntityScores(TYPES, repair="discard").name == "conll entity-level, repair=discard"
