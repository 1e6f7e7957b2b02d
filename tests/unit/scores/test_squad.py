"""Exact match and F1 of answers; the tables were made by the official scripts, random answers have other oracles."""

from __future__ import annotations

import itertools
import random
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from torchmetrics.functional.text import squad

from peftlab.scores.of_record import scorer_of
from peftlab.scores.squad import Language, SquadScores, answer_scores, null_threshold

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


PIECES = [
    *(
        "the",
        "The",
        "a",
        "AN",
        "thea",
        "a.n",
        "Denver",
        "denver's",
        "Broncos",
        "U.S.",
        "1,000",
        "1000",
        "$5.50",
        "_the",
    ),
    *("_the", "...", "-", "\u2013", "\u201c", "\u00bf", "the\u20ac", "=", "\xa0", "\u3000", "\u200d", "\x1c", "\u0301"),
    *("été", "E\u0301TE", "\u0130", "\u0131", "Straße", "STRASSE", "\u03a3\u03a3", "\ufb01n"),
    *("die", "Der", "dem", "einer", "eines", "Halle", "el", "LOS", "una", "casa", "là", "Của", "những"),
    *("ال", "البيت", "بيت", "\u060c", "की", "घर", "\u0964"),
    *("北京", "北", "大学", "2008年", "\u3001", "\u3002", "\u300a", "龦", "あ"),
]
"""What random answers are made of: words, articles, punctuation and white space of many languages, and odd cases."""


def drawn_text(draw: random.Random) -> str:
    return draw.choice(["", " ", " ", "\n"]).join(draw.choices(PIECES, k=draw.randrange(6)))


def edited(draw: random.Random, text: str) -> str:
    """Return a text that shares some of its words with `text`, if not all."""
    words = text.split()
    draw.shuffle(words)
    words = words[draw.randrange(2) :] + draw.choices(PIECES, k=draw.randrange(3))
    return draw.choice([str, str.upper, str.title])(" ".join(words)) if draw.random() < 0.9 else text


def drawn_answer(draw: random.Random) -> tuple[str, list[str]]:
    """Return a prediction, and none to three gold answers that it often has words of."""
    gold = [drawn_text(draw) for _ in range(draw.randrange(4))]
    return edited(draw, draw.choice(gold)) if gold and draw.random() < 0.8 else drawn_text(draw), gold


def scores_of_torchmetrics(predicted: str, gold: str) -> tuple[float, float]:
    """Return the exact match and the F1 by the rules that both versions of SQuAD's script have for one gold answer."""
    scores = squad(
        {"id": "1", "prediction_text": predicted}, {"id": "1", "answers": {"text": [gold], "answer_start": [0]}}
    )
    return float(scores["exact_match"]) / 100, float(scores["f1"]) / 100


ARTICLES = {
    "de": "der die das den dem des ein eine einen einem eines einer",
    "es": "un una unos unas el la los las",
    "vi": "của là cái chiếc những",
}
"""Words that do not count, by MLQA's script."""


def words_by_mlqa(text: str, language: str) -> list[str]:
    """Return the words that count by MLQA's rules, read character by character, without regular expressions."""
    kept = [c for c in text.lower() if not unicodedata.category(c).startswith("P") and c not in string.punctuation]
    if language == "zh":
        kept = [f" {c} " if "\u4e00" <= c <= "\u9fa5" else c for c in kept]
    if language == "ar":
        return "".join(kept).replace("ال", " ").split()
    runs = ["".join(run) for _, run in itertools.groupby(kept, lambda c: c.isalnum() or c == "_")]
    return "".join(" " if run in ARTICLES.get(language, "").split() else run for run in runs).split()


def scores_by_mlqa(predicted: str, gold: str, language: str) -> tuple[float, float]:
    """Return the exact match and the F1 by these rules, but that two answers without a word agree."""
    own, theirs = words_by_mlqa(predicted, language), words_by_mlqa(gold, language)
    if not own or not theirs:
        return (float(own == theirs),) * 2
    shared = Counter(own) & Counter(theirs)
    return float(own == theirs), 2 * sum(shared.values()) / (len(own) + len(theirs))


def other_scores(predicted: str, gold: Sequence[str], language: str = "en") -> list[float]:
    """Return the exact match and the F1 with the gold answer that each is highest with, by another implementation.

    As in version 2 of SQuAD's script, gold answers without a word are left out; where all are, there is no answer.
    """

    def of_one(text: str, answer: str) -> tuple[float, float]:
        return scores_of_torchmetrics(text, answer) if language == "en" else scores_by_mlqa(text, answer, language)

    golds = [answer for answer in gold if not of_one("", answer)[0]] or [""]
    return [max(scores) for scores in zip(*(of_one(predicted, answer) for answer in golds), strict=True)]


def test_the_other_implementation_gives_what_the_scripts_gave():
    for language, predicted, gold, exact, f1 in [*MLQA, *(("en", *row) for row in EVALUATE_V2)]:
        assert other_scores(predicted, gold, language) == pytest.approx([exact, f1]), (language, predicted, gold)


@pytest.mark.parametrize("cases", [300, pytest.param(10_000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("language", get_args(Language))
def test_random_answers_are_scored_as_by_another_implementation(language, cases):
    draw, kinds = random.Random(cases), Counter()
    for _ in range(cases):
        predicted, gold = drawn_answer(draw)
        exact, f1 = answer_scores(predicted, gold, language)
        assert [exact, f1] == pytest.approx(other_scores(predicted, gold, language), abs=1e-6), (predicted, gold)
        kinds[(exact, f1) if f1 in (0, 1) else "in part"] += 1
    assert min(kinds[kind] for kind in ((1, 1), (0, 0), "in part")) > cases / 10


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
