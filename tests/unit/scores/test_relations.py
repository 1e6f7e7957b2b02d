"""Scores of relations, beside those of the official script of SemEval-2010 task 8 (version 1.2)."""

from __future__ import annotations

import random

import numpy as np
import pytest

from peftlab.scores.relations import RelationScores, relation_of

RELATIONS = {
    "a": "Cause-Effect",
    "b": "Component-Whole",
    "c": "Content-Container",
    "d": "Entity-Destination",
    "e": "Entity-Origin",
    "f": "Instrument-Agency",
    "g": "Member-Collection",
    "h": "Message-Topic",
    "i": "Product-Producer",
}
LABELS = [f"{name}({direction})" for name in RELATIONS.values() for direction in ("e1,e2", "e2,e1")] + ["Other"]


def label(letter: str) -> str:
    """Return the label of a letter; capitals are the other direction, and - is no relation."""
    if letter == "-":
        return "Other"
    return f"{RELATIONS[letter.lower()]}({'e1,e2' if letter.islower() else 'e2,e1'})"


def answers(gold: str, predicted: str):
    return [{"gold": label(one), "predicted": label(other)} for one, other in zip(gold, predicted, strict=True)]


OFFICIAL = [  # gold, predictions; macro F1, precision and recall; micro F1, macro F1 without directions, accuracy
    ("-bdEHfEHcHEd", "-bdEHfEDcHEA", [88.33, 91.67, 86.11, 85.71, 88.33, 83.33]),
    ("bCfAFacHB-", "bcfa-acHb-", [63.33, 70.00, 60.00, 58.82, 93.33, 60.00]),
    ("bBAEAhbA", "bBaEAHBA", [58.33, 58.33, 58.33, 62.50, 100.00, 62.50]),
    ("H--FEF-FEH-", "HH-FEF-fee-", [52.22, 50.00, 55.56, 53.33, 76.67, 63.64]),
    ("-cHDhFBFdBh", "acHGgfBFdBc", [66.67, 80.00, 66.67, 66.67, 76.67, 54.55]),
    ("chcB-cBABAA-fh", "ChcB-cbaBAA-fI", [73.33, 80.00, 70.00, 69.57, 93.33, 71.43]),
    ("DdI--DBFECabGH", "Ddb-hdbfEcAbdh", [21.90, 20.37, 24.07, 32.00, 70.26, 35.71]),
]
"""What ``semeval2010_task8_scorer-v1.2.pl`` prints for random files; it rounds to two digits."""


@pytest.mark.parametrize(("gold", "predicted", "official"), OFFICIAL)
def test_the_scores_are_those_of_the_official_script(gold, predicted, official):
    scorer = RelationScores(LABELS, "Other")
    total = scorer.total(answers(gold, predicted))
    assert [100 * value for value in scorer.scores(total).values()] == pytest.approx(official, abs=0.00501)
    many = scorer.batched(np.stack([total, 3 * total]))
    for name, value in scorer.scores(total).items():
        assert many[name].tolist() == pytest.approx([value, value], rel=1e-6)


def by_the_rules(gold: str, predicted: str) -> list[float]:
    """Return the six scores by the script's rules, counted relation by relation, in percent."""
    pairs = list(zip(gold, predicted, strict=True))
    occurring = sorted({one.lower() for one in gold} - {"-"})
    counts = np.array(
        [
            [
                sum(one == other and one.lower() == name for one, other in pairs),
                sum(one.lower() == other.lower() == name for one, other in pairs),
                predicted.lower().count(name),
                gold.lower().count(name),
            ]
            for name in occurring
        ]
    )

    def f1(correct: float, found: float, true: float) -> float:
        return 2 * correct / (found + true)

    means = [
        [f1(correct, found, true) for correct, _, found, true in counts],
        [correct / max(found, 1) for correct, _, found, _ in counts],
        [correct / true for correct, _, _, true in counts],
        [f1(*counts.sum(0)[[0, 2, 3]])],
        [f1(of_type, found, true) for _, of_type, found, true in counts],
        [one == other for one, other in pairs],
    ]
    return [100 * float(np.mean(values)) for values in means]


@pytest.mark.parametrize("cases", [50, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_random_files_are_scored_as_by_another_implementation(cases):
    """The other one gives what the official script printed, too."""
    for gold, predicted, official in OFFICIAL:
        assert by_the_rules(gold, predicted) == pytest.approx(official, abs=0.00501)
    draw, scorer = random.Random(cases), RelationScores(LABELS, "Other")
    letters = "".join(RELATIONS) + "".join(RELATIONS).upper() + "-"
    for _ in range(cases):
        some = draw.choices(letters, k=draw.randrange(1, 8))  # so that relations are missing, and directions
        gold = [draw.choice(some) for _ in range(draw.randrange(1, 40))]
        gold.append(draw.choice("abAB"))  # the script divides by zero without a relation
        predicted = [draw.choice([one, one, one.swapcase(), draw.choice(letters), "-"]) for one in gold]
        scores = scorer.scores(scorer.total(answers("".join(gold), "".join(predicted)))).values()
        expected = by_the_rules("".join(gold), "".join(predicted))
        assert [100 * value for value in scores] == pytest.approx(expected, abs=1e-4), (gold, predicted)


def test_errors_of_direction_stand_apart_from_those_of_type():
    scorer = RelationScores(LABELS, "Other")
    total = scorer.total(answers("aaAb-", "aAb-a"))
    columns, rows = scorer.tables(total)["relations"]
    row = dict(zip(columns, rows[0], strict=True))
    assert row == {
        "relation": "Cause-Effect",
        "precision": 1 / 3,
        "recall": 1 / 3,
        "f1": 1 / 3,
        "support": 3,
        "predicted": 3,
        "wrong direction": 1,
        "wrong relation": 1,
    }
    assert "of 4 relations, 1 have the wrong direction and 2 another label" in scorer.report(total)
    assert scorer.details(total)["relation_f1/Cause-Effect"] == 1 / 3


def test_labels_may_have_no_direction_and_all_may_be_relations():
    scorer = RelationScores(["born-in", "works-for", "born-in (e2, e1)"], None)
    assert scorer.relations == ["born-in", "works-for"]
    total = scorer.total([{"gold": "born-in", "predicted": "born-in"}, {"gold": "works-for", "predicted": "born-in"}])
    assert scorer.scores(total)["relation_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert relation_of("a(b)") == "a(b)"


def test_nothing_is_divided_by_zero():
    for labels in ([], ["Other"], LABELS):
        scorer = RelationScores(labels, "Other")
        empty = scorer.total([])
        assert set(scorer.scores(empty).values()) == {0.0}
        assert all(value.tolist() == [0, 0] for value in scorer.batched(np.stack([empty, empty])).values())


def test_a_scorer_is_known_by_its_name():
    for none in ("Other", None):
        scorer = RelationScores(LABELS, none)
        again = RelationScores.named(scorer.name, LABELS)
        assert again is not None
        assert (again.name, again.none) == (scorer.name, none)
    assert RelationScores.named("another", LABELS) is None


def test_a_scorer_of_many_labels_is_known_without_one_for_each_of_them(monkeypatch):
    labels = [f"r{number}(e{one},e{3 - one})" for number in range(20) for one in (1, 2)]
    name, read = RelationScores(labels, labels[-1]).name, []

    def reading(label):
        read.append(label)
        return relation_of(label)

    monkeypatch.setattr("peftlab.scores.relations.relation_of", reading)
    again = RelationScores.named(name, labels)
    assert again is not None
    assert again.none == labels[-1]
    assert len(read) <= 2 * len(labels)
