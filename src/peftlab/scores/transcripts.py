"""Word and character error rates of transcripts, after a normaliser that the scorer's name tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from typing_extensions import override

from peftlab.scores.scorer import Direction
from peftlab.scores.written_texts import AnswerPerplexity

Normaliser = Literal["none", "basic", "whisper_english"]
"""What is done to a transcript before words are compared, as the Whisper paper does it (Radford et al. 2023, appendix
C): nothing; lower case, no punctuation and no marks; or also English contractions, numerals and titles, without its
table of British spellings. The code is transformers' own."""

Unit = Literal["words", "characters"]
"""What a word is: what stands between spaces, or a character where a script has none between words."""

UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "bo"})
"""Languages that are written without spaces between words, whose error rates are those of characters."""

_TEXTS = slice(3, 11)
"""Of answers with a transcript: their number, those without an error, substitutions, deletions, insertions and words of
the gold, errors and number of characters."""


class Edits(NamedTuple):
    """The fewest edits that make one sequence of another."""

    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        """The number of all, the Levenshtein distance."""
        return sum(self)


class Transcripts(AnswerPerplexity):
    """Error rates of what a model hears, and the perplexity of what was said.

    ``wer`` and ``cer`` are the edits of all transcripts over the words, or the characters without spaces, of all gold;
    above 1 where much is invented. ``exact_match`` is the share of transcripts without an edit.

    Args:
        normaliser: what is done to both sides first.
        unit: what a word is.
    """

    directions: ClassVar[Mapping[str, Direction]] = {
        "perplexity": "min",
        "wer": "min",
        "cer": "min",
        "exact_match": "max",
    }

    def __init__(self, normaliser: Normaliser = "basic", unit: Unit = "words") -> None:
        super().__init__()
        self.normaliser, self.unit = normaliser, unit

    @override
    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        scorers = (cls(*both) for both in product(get_args(Normaliser), get_args(Unit)))
        return next((scorer for scorer in scorers if scorer.name == name), None)

    @property
    def name(self) -> str:
        """Return the normaliser and the unit."""
        return f"transcripts, normaliser={self.normaliser}, error rates of {self.unit}: edits over the whole split"

    @property
    def width(self) -> int:
        """Return the number of counts: those of the perplexity, and of transcripts."""
        return _TEXTS.stop

    @override
    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the counts of an answer, with the edits of what is ``predicted``, if anything.

        Raises:
            ValueError: the answer lacks gold, or the transcript is no text.
        """
        counts, text = super().counts(answer), answer["predicted"]
        if text is None:
            return counts
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no transcript")
        normalise = normaliser_of(self.normaliser, self.unit)
        said, heard = normalise(answer["gold"]), normalise(text)
        edits = edits_of(said.split(), heard.split())
        characters = ["".join(each.split()) for each in (said, heard)]
        numbers = [1, not edits.errors, *edits, len(said.split()), distance(*characters), len(characters[0])]
        return counts | {_TEXTS.start + n: float(number) for n, number in enumerate(numbers) if number}

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return the scores; of answers none of which has a transcript, the perplexity alone."""
        scores = super().scores(total)
        return scores if total[_TEXTS.start] else {"perplexity": scores["perplexity"]}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        number, exact, *edits, words, errors, characters = totals.astype(np.float64)[:, _TEXTS].T
        return super().batched(totals) | {
            "wer": _ratio(np.sum(edits, axis=0), words),
            "cer": _ratio(errors, characters),
            "exact_match": _ratio(exact, number),
        }

    @override
    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the scores with the rate of each kind of edit."""
        _, _, *edits, words, _, _ = total[_TEXTS]
        rates = zip(Edits._fields, edits, strict=True)
        return self.scores(total) | ({f"wer/{kind}": float(n / words) for kind, n in rates} if words else {})


def normaliser_of(kind: Normaliser, unit: Unit) -> Callable[[str], str]:
    """Return the function that normalises a transcript, whose result has spaces between units."""
    normalise = _normaliser(kind)
    if unit == "words":
        return normalise
    return lambda text: " ".join(re.sub(r"\s", "", normalise(text)))


@cache
def _normaliser(kind: Normaliser) -> Callable[[str], str]:
    if kind == "none":
        return str
    theirs = import_module("transformers.models.whisper.english_normalizer")  # which imports no torch
    made: Callable[[str], str] = theirs.BasicTextNormalizer() if kind == "basic" else theirs.EnglishTextNormalizer({})
    return made


def edits_of(gold: Sequence[str], other: Sequence[str]) -> Edits:
    """Return the fewest edits that make `other` of `gold`; of several ways, one with the fewest substitutions."""
    row = [(n, 0) for n in range(len(other) + 1)]  # edits and substitutions to the prefixes of `other`
    for said in gold:
        diagonal, row[0] = row[0], (row[0][0] + 1, 0)
        for place, heard in enumerate(other, 1):
            errors, substituted = diagonal
            differs = said != heard
            best = min(
                (errors + differs, substituted + differs),
                (row[place][0] + 1, row[place][1]),
                (row[place - 1][0] + 1, row[place - 1][1]),
            )
            diagonal, row[place] = row[place], best
    errors, substituted = row[-1]
    surplus = len(gold) - len(other)  # deletions less insertions
    deleted = (errors - substituted + surplus) // 2
    return Edits(substituted, deleted, errors - substituted - deleted)


def distance(gold: str, other: str) -> int:
    """Return the Levenshtein distance of two texts, all columns of a row at once in the bits of integers (Hyyrö 2003).

    Transcripts have hundreds of characters, of which a table would take a second.
    """
    if not gold:
        return len(other)
    places: dict[str, int] = {}
    for n, character in enumerate(gold):
        places[character] = places.get(character, 0) | 1 << n
    whole, last = (1 << len(gold)) - 1, 1 << len(gold) - 1
    up, down, errors = whole, 0, len(gold)
    for character in other:
        match = places.get(character, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        right, left = down | ~(diagonal | up), up & diagonal
        errors += bool(right & last) - bool(left & last)
        right, left = right << 1 | 1, left << 1
        up, down = (left | ~(diagonal | right)) & whole, right & diagonal & whole
    return errors


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
