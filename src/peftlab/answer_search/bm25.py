"""BM25: how well the words of a question match those of each answer (Robertson & Zaragoza 2009). NumPy.

The inverse document frequency is that of Lucene, log(1 + (N - n + 0.5) / (n + 0.5)), which is never negative.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftlab.reading.words import SPACELESS

K1, B = 1.5, 0.75
"""How soon a repeated word stops to count, and how much long answers are discounted."""

_ALONE = rf"{SPACELESS}\uac00-\ud7af"
"""Characters that are words by themselves: those of scripts without spaces, and the syllables of Korean, whose words
have endings."""

_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")
"""A word: such a character, or letters, digits and underscores of other scripts together."""


def words_of(text: str) -> list[str]:
    """Return the words of a text, in one case, and with an accent in one form, however it was typed."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class Bm25:
    """The words of answers, each with the answers that have it and what it adds to their scores."""

    words: dict[str, int]
    """The number of each word."""
    starts: np.ndarray
    """Where the entries of each word begin in the next two, (words + 1,)."""
    answers: np.ndarray
    """The answers that have a word, one word after the other."""
    weights: np.ndarray
    """What the word adds to their scores."""
    size: int
    """The number of answers."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Bm25:
        """Return the index of `texts`."""
        counts = [Counter(words_of(text)) for text in texts]
        lengths = np.asarray([sum(count.values()) for count in counts], dtype=np.float64)
        norms = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
        words: dict[str, int] = {}
        pairs = [
            (words.setdefault(word, len(words)), answer, times)
            for answer, count in enumerate(counts)
            for word, times in count.items()
        ]
        of, answers, times = np.asarray(pairs, dtype=np.int64).reshape(-1, 3).T
        order = np.argsort(of, kind="stable")
        of, answers, times = of[order], answers[order], times[order]
        having = np.bincount(of, minlength=len(words))
        idf = np.log1p((len(texts) - having + 0.5) / (having + 0.5))
        weights = idf[of] * times / (times + norms[answers])
        starts = np.concatenate([[0], np.cumsum(having)])
        return cls(words, starts, answers.astype(np.int32), weights.astype(np.float32), len(texts))

    def scores(self, question: str) -> np.ndarray:
        """Return the score of each answer, (answers,); 0 where it shares no word. A repeated word counts again."""
        scores = np.zeros(self.size, dtype=np.float64)
        for word in words_of(question):
            if (number := self.words.get(word)) is not None:
                entries = slice(self.starts[number], self.starts[number + 1])
                scores[self.answers[entries]] += self.weights[entries]  # an answer is there once
        return scores
