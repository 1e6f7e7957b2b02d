"""Exact match and F1 of answers to questions, as the official scripts of SQuAD and MLQA compute them."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from typing_extensions import override

from peftlab.scores.scorer import Direction, Scorer, Table

Language = Literal["en", "ar", "de", "es", "hi", "vi", "zh"]
"""The language of the answers, which decides on articles, punctuation and what a word is."""

_ARTICLES: Mapping[str, str] = {
    "en": r"\b(?:a|an|the)\b",
    "ar": "ال",
    "de": r"\b(?:der|die|das|den|dem|des|ein|eine|einen|einem|eines|einer)\b",
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
}
_CHINESE = re.compile("([\u4e00-\u9fa5])")

_ANSWERED, _EMPTY = 0, 1
"""The kinds of questions that are counted apart: with an answer in the text, and without."""


class SquadScores(Scorer):
    """Exact match and F1, means over the questions; each question counts with the gold answer that fits best.

    English is scored as by ``evaluate-v2.0.py`` (Rajpurkar et al. 2018): case, ASCII punctuation, articles and white
    space do not count, F1 is that of the bags of words, and where the gold is that there is no answer, only the empty
    answer is right. Other languages are scored as by ``mlqa_evaluation_v1.py`` (Lewis et al. 2020), the practice for
    XQuAD and MLQA: punctuation is that of Unicode, articles are those of the language, and in Chinese each character
    is a word. Answers without a word are scored as in English: two of them have an F1 of 1, and among gold answers that
    have words they do not count.

    Args:
        language: that of the answers.
        no_answer: whether the details tell questions with an answer from those without.
    """

    dtype = np.float64
    directions: ClassVar[Mapping[str, Direction]] = {"exact_match": "max", "f1": "max"}

    def __init__(self, language: Language = "en", no_answer: bool = False) -> None:
        self.language: Language = language
        self.no_answer = no_answer

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer of that language."""
        scorers = (cls(language, no_answer) for language in get_args(Language) for no_answer in (False, True))
        return next((scorer for scorer in scorers if scorer.name == name), None)

    @property
    def name(self) -> str:
        """Return how the scores are computed."""
        rules = "SQuAD evaluate-v2.0" if self.language == "en" else f"MLQA evaluation v1, language={self.language}"
        return f"{rules}, unanswerable questions apart" if self.no_answer else rules

    @property
    def width(self) -> int:
        """Return 6: exact matches, sum of F1 and number of questions, for those with an answer and those without."""
        return 6

    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the exact match, the F1, and 1 for the question.

        Args:
            answer: with the texts of ``gold``, none if there is no answer, and the text that is ``predicted``, empty
                for none; a list of texts stands for its first one.

        Raises:
            ValueError: there is no gold.
        """
        gold, predicted = answer["gold"], answer["predicted"]
        if gold is None:
            raise ValueError("the question has no gold")
        if not isinstance(predicted, str):
            predicted = next(iter(predicted), "")
        exact, f1 = answer_scores(predicted, gold, self.language)
        first = 3 * (_ANSWERED if gold else _EMPTY)
        return {first: exact, first + 1: f1, first + 2: 1.0}

    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return both means, 0 without a question."""
        return _of_one(total.reshape(2, 3).sum(0))

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        return _means(totals.reshape(-1, 2, 3).sum(1))

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores, and where some questions have no answer those of ``HasAns`` and ``NoAns``."""
        scores = self.scores(total)
        if self.no_answer:
            for kind, name in ((_ANSWERED, "HasAns"), (_EMPTY, "NoAns")):
                scores |= {f"{score}/{name}": value for score, value in _of_one(total.reshape(2, 3)[kind]).items()}
        return scores

    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return the scores of all questions, and of those with an answer and those without."""
        return {"questions": (["questions", "number", "exact_match", "f1"], self._rows(total))}

    def report(self, total: np.ndarray) -> str:
        """Return the same as text."""
        lines = [f"{'questions':14}{'number':>8}  exact match      F1"]
        lines += [f"{name:14}{number:8,}  {exact:11.4f}  {f1:6.4f}" for name, number, exact, f1 in self._rows(total)]
        return "\n".join(lines)

    def _rows(self, total: np.ndarray) -> list[list[Any]]:
        by_kind = total.reshape(2, 3)
        sums = {"all": by_kind.sum(0)}
        if self.no_answer:
            sums |= {"with answer": by_kind[_ANSWERED], "without answer": by_kind[_EMPTY]}
        return [[name, int(of_kind[2]), *_of_one(of_kind).values()] for name, of_kind in sums.items()]


def _means(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of sums of exact matches, F1 and questions, shape (number, 3)."""
    number = np.maximum(sums[:, 2], 1)
    return {"exact_match": sums[:, 0] / number, "f1": sums[:, 1] / number}


def _of_one(sums: np.ndarray) -> dict[str, float]:
    """Return the scores of such sums, shape (3,), with the digits that fp32 holds, as metrics are kept."""
    return {name: float(np.float32(values[0])) for name, values in _means(sums[None]).items()}


def answer_scores(predicted: str, gold: Sequence[str], language: Language = "en") -> tuple[float, float]:
    """Return the exact match and the F1 of an answer, each with the gold answer that it is highest with.

    Args:
        predicted: the answer, empty for none.
        gold: the gold answers; without one that has a word, only an answer without a word is right.
        language: that of the answers.
    """
    own = words_of_answer(predicted, language)
    theirs = [words for text in gold if (words := words_of_answer(text, language))] or [()]
    return max(float(own == words) for words in theirs), max(_f1(own, words) for words in theirs)


def null_threshold(margins: np.ndarray, gains: np.ndarray) -> float:
    """Return the threshold above which it is best to answer that there is no answer.

    It is the middle between two margins, so that the last digits of a margin decide nothing; of equally good ones, it
    is the one nearest to 0. Its score is that of ``evaluate-v2.0.py`` at the best threshold.

    Args:
        margins: by how much the score of no answer exceeds that of the best span, shape (questions,).
        gains: the score of no answer less that of this span, shape (questions,).
    """
    values, place = np.unique(margins, return_inverse=True)  # in rising order
    if not len(values):
        return 0.0
    of_values = np.bincount(place.ravel(), gains)
    gained = np.append(np.cumsum(of_values[::-1])[::-1], 0.0)  # gained[n]: by no answer from values[n] on
    middles = (values[:-1] + values[1:]) / 2
    thresholds = np.concatenate([[values[0] - 1], middles, [values[-1]]])
    best = np.flatnonzero(gained >= gained.max() - 1e-9)
    return float(min(thresholds[best], key=abs))


@lru_cache(maxsize=2**15)  # every validation scores the same gold again
def words_of_answer(text: str, language: Language = "en") -> tuple[str, ...]:
    """Return the words of an answer that count, in lower case."""
    text = "".join(character for character in text.lower() if not _is_punctuation(character, language))
    if language in _ARTICLES:
        text = re.sub(_ARTICLES[language], " ", text)
    if language == "zh":
        text = _CHINESE.sub(r" \1 ", text)
    return tuple(text.split())


def _is_punctuation(character: str, language: Language) -> bool:
    if character in string.punctuation:
        return True
    return language != "en" and unicodedata.category(character).startswith("P")


def _f1(predicted: tuple[str, ...], gold: tuple[str, ...]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    shared = (Counter(predicted) & Counter(gold)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
