"""Exact match and F1 of answers; the tables were made by the official scripts."""

from __future__ import annotations

import numpy as np
import pytest

from peftlab.scores.of_record import scorer_of
from peftlab.scores.squad import SquadScores, answer_scores, null_threshold

EVALUATE_V2 = [
    ("Denver Broncos", ["Denver Broncos", "the Denver Broncos"], 1, 1.0),
    ("the Denver Broncos .", ["Denver Broncos"], 1, 1.0),
    ("Broncos of Denver", ["Denver Broncos"], 0, 0.8),
    ("", ["308"], 0, 0),
    ("", [], 1, 1),
    ("308", [], 0, 0),
    ("the", [], 1, 1),
    ("the", ["The"], 1, 1),
    ("a an the", ["the answer"], 0, 0),
    ("1,000", ["1000"], 1, 1.0),
    ("1 000", ["1000"], 0, 0),
    ("$5.50", ["5.50 dollars"], 0, 0.6666666666666666),
    ("don't", ["dont"], 1, 1.0),
    ("U.S. Army", ["US army"], 1, 1.0),
    ("New York, New York", ["New York"], 0, 0.6666666666666666),
    ("New New York", ["New York, New York"], 0, 0.8571428571428571),
    ("\u201cquoted\u201d", ["quoted"], 0, 0),
    ("a\xa0b", ["a b"], 1, 1.0),
    ("thea", ["the a"], 0, 0),
    ("été", ["ÉTÉ"], 1, 1.0),
    ("north\u2013south", ["north-south"], 0, 0),
    ("x y z", ["a x", "z y x w"], 0, 0.8571428571428571),
    ("...", ["...", "!"], 1, 1),
    ("...", ["word"], 0, 0),
]
"""Predicted, gold, and what evaluate-v2.0.py computes."""

MLQA = [
    ("zh", "北京大学", ["北京"], 0.0, 0.6666666666666666),
    ("zh", "北京 2008 年", ["2008年"], 0.0, 0.6666666666666666),
    ("zh", "《北京》。", ["北京"], 1.0, 1.0),
    ("de", "die große Halle", ["Große Halle"], 1.0, 1.0),
    ("de", "die Halle", ["eine große Halle"], 0.0, 0.6666666666666666),
    ("es", "la casa", ["casas", "una casa"], 1.0, 1.0),
]
"""Language, predicted, gold, and what mlqa_evaluation_v1.py computes."""


def test_english_is_scored_as_by_squads_script():
    for predicted, gold, exact, f1 in EVALUATE_V2:
        assert answer_scores(predicted, gold) == (exact, f1), (predicted, gold)


def test_other_languages_are_scored_as_by_mlqas_script():
    for language, predicted, gold, exact, f1 in MLQA:
        assert answer_scores(predicted, gold, language) == (exact, f1), (language, predicted, gold)


def answers():
    return [{"predicted": predicted, "gold": gold} for predicted, gold, *_ in EVALUATE_V2]


def test_scores_are_means_over_the_questions():
    scorer = SquadScores(no_answer=True)
    details = scorer.details(scorer.total(answers()))
    exact, f1 = (np.array([row[place] for row in EVALUATE_V2], float) for place in (2, 3))
    answered = np.array([bool(gold) for _, gold, *_ in EVALUATE_V2])
    for name, chosen in (("", answered >= 0), ("/HasAns", answered), ("/NoAns", ~answered)):
        assert details[f"exact_match{name}"] == pytest.approx(exact[chosen].mean())
        assert details[f"f1{name}"] == pytest.approx(f1[chosen].mean())
    assert all(float(np.float32(value)) == value for value in details.values())
    assert set(SquadScores().details(scorer.total(answers()))) == {"exact_match", "f1"}
    assert scorer.report(scorer.total(answers())).splitlines()[3].split()[:3] == ["without", "answer", "3"]


def test_many_sums_are_scored_at_once_and_nothing_scores_nothing():
    scorer = SquadScores()
    totals = np.stack([scorer.total(answers()[:n]) for n in (0, 3, 9, 24)])
    batched = scorer.batched(totals)
    for n, total in enumerate(totals):
        assert scorer.scores(total) == pytest.approx({name: values[n] for name, values in batched.items()})
    assert scorer.scores(totals[0]) == {"exact_match": 0, "f1": 0}


def test_its_name_tells_all_of_it():
    scorers = [SquadScores("en"), SquadScores("en", no_answer=True), SquadScores("zh"), SquadScores("de", True)]
    assert len({scorer.name for scorer in scorers}) == 4
    for scorer in scorers:
        again = scorer_of(scorer.name, [])
        assert isinstance(again, SquadScores)
        assert (again.language, again.no_answer) == (scorer.language, scorer.no_answer)


def test_an_answer_that_is_one_of_the_gold_is_right():
    scorer = SquadScores()
    gold = ["Denver Broncos", "Broncos"]
    assert scorer.is_right({"predicted": "the Broncos", "gold": gold})
    assert not scorer.is_right({"predicted": "Denver", "gold": gold})
    assert scorer.is_right({"predicted": "", "gold": []})
    with pytest.raises(ValueError, match="no gold"):
        scorer.counts({"predicted": "Broncos", "gold": None})


class TestNullThreshold:
    def test_it_is_the_best_of_all(self):
        generator = np.random.default_rng(0)
        for _ in range(50):
            margins = generator.normal(size=20).round(1)  # with ties
            gains = generator.choice([-1.0, -0.5, 0.0, 1.0], 20)
            threshold = null_threshold(margins, gains)
            every = [gains[margins > each].sum() for each in (*margins, margins.min() - 1)]
            assert gains[margins > threshold].sum() == pytest.approx(max(every))

    def test_no_margin_is_at_its_edge(self):
        assert null_threshold(np.array([-3.0, 1.0, 4.0]), np.array([-1.0, -1.0, 1.0])) == 2.5

    def test_of_equally_good_ones_it_is_the_nearest_to_zero(self):
        assert null_threshold(np.array([-3.0, -2.0, 4.0]), np.array([-1.0, 0.0, 0.0])) == 1.0
        assert null_threshold(np.array([]), np.array([])) == 0
